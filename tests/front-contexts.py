# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""For test-front-contexts.sh: what contexts say.

  front-contexts.py SOCKET list EXPORT@SNAPSHOT     the dirty bitmaps, in order
  front-contexts.py SOCKET dirty EXPORT@SNAPSHOT CHECKPOINT [extended]
                                                    FIRST-LAST of dirty bytes
  front-contexts.py SOCKET time EXPORT@SNAPSHOT CHECKPOINT
"""

import sys
import time

from nbdwire import *

path, verb, name = sys.argv[1:4]
DIRTY = "qemu:dirty-bitmap:"


def wire(checkpoint, style):
    w = Wire(path)
    if style == EXTENDED:
        w.extended()
    else:
        w.structured()
    assert w.set_contexts(name, DIRTY + checkpoint) == [DIRTY + checkpoint]
    w.go(name)
    return w


def show(extents):
    at, text = 0, []
    for n, flags in extents:
        if flags:
            text.append("%d-%d" % (at, at + n))
        at += n
    return " ".join(text)


if verb == "list":
    print(" ".join(n[len(DIRTY):]
                   for n in Wire(path).list_contexts(name, DIRTY)))
elif verb == "dirty":
    w = wire(sys.argv[4], EXTENDED if sys.argv[5:] else STRUCTURED)
    print(show(w.all_status(w.ids[DIRTY + sys.argv[4]])[0]))
else:
    # The whole of a large disk: in how many requests, and how fast.
    for style, most in ((EXTENDED, 3), (STRUCTURED, 5000)):
        w = wire(sys.argv[4], style)
        start = time.monotonic()
        extents, n = w.all_status(w.ids[DIRTY + sys.argv[4]])
        took = time.monotonic() - start
        print("%d extents of %d bytes in %d requests, %.3f s" %
              (len(extents), w.size, n, took), file=sys.stderr)
        assert n <= most, n
        assert took < 1 or style == STRUCTURED and took < 5, took
    print(show(extents))
