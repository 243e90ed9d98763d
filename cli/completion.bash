# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Completion of nbdfleece's commands and options in bash; all that it knows it
# asks --help.

_nbdfleece () {
  local cur=${COMP_WORDS[COMP_CWORD]} prog=${COMP_WORDS[0]}
  local words=() commands command w skip=
  for w in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    if [ -n "$skip" ]; then skip=; continue; fi
    case $w in
      -s | --socket) skip=1 ;;
      -*) ;;
      *) words+=("$w") ;;
    esac
  done

  # Lines of two blanks and lower case words, up to the arguments.
  commands=$("$prog" --help 2>/dev/null |
               sed -n 's/^  \([a-z][a-z]*\( [a-z]*[a-z]\)*\).*/\1/p')
  command=${words[*]:0:2}
  grep -qx "$command" <<<"$commands" || command=${words[0]}

  case $cur in
    -*)
      # Without a command, only what comes after those of all commands.
      COMPREPLY=($(compgen -W "$("$prog" $command --help 2>/dev/null |
        if [ -z "$command" ]; then sed '1,/^Options/d'; else cat; fi |
        grep -o '^  *\(-., \)\?--[a-z-]*' | grep -o -e '--.*')" -- "$cur"))
      return ;;
  esac
  case ${#words[@]} in
    0) COMPREPLY=($(compgen -W "$(cut -d' ' -f1 <<<"$commands" | uniq)" -- "$cur")) ;;
    1) COMPREPLY=($(compgen -W "$(sed -n "s/^${words[0]} //p" \
                                      <<<"$commands")" -- "$cur")) ;;
    *) COMPREPLY=() ;;
  esac
} && complete -o default -F _nbdfleece nbdfleece
