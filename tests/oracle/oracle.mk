# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The oracle test (see main.c), included by tests/Makefile.am.

oracle_oracle_SOURCES = \
	oracle/begin.c oracle/chaos.c oracle/check.c oracle/direct.c \
	oracle/main.c oracle/model.c oracle/model.h oracle/options.c \
	oracle/oracle.h oracle/readers.c oracle/servers.c oracle/settle.c \
	oracle/snapshots.c oracle/turn.c oracle/util.c oracle/writers.c
oracle_oracle_LDADD = $(LDADD) $(LIBNBD_LIBS)

# A filter below ours that holds and splits requests.
check_LTLIBRARIES += oracle/jitter.la
oracle_jitter_la_SOURCES = oracle/jitter.c
oracle_jitter_la_CFLAGS = $(AM_CFLAGS) $(NBDKIT_CFLAGS)
oracle_jitter_la_LDFLAGS = -module -avoid-version -shared \
	-rpath $(abs_builddir)

# What test-oracle-broken.sh and test-oracle-chains-broken.sh run against; the
# other folders' own rules.
check_DATA = oracle/broken.stamp
oracle/broken.stamp: FORCE
	@for d in common filter plugin server copier; do \
	  $(MAKE) -s -C ../$$d check || exit 1; \
	done
	@touch $@
FORCE:
CLEANFILES = oracle/broken.stamp

# Ten times the rounds, in percent of those of `make check'; -j for several of
# the oracles at a time.
oracle-long:
	NBDFLEECE_ROUNDS=$${NBDFLEECE_ROUNDS:-1000} \
	NBDFLEECE_TEST_TIMEOUT=$${NBDFLEECE_TEST_TIMEOUT:-36000} \
	  $(MAKE) check TESTS="test-oracle.sh test-oracle-backends.sh \
	    test-oracle-faults.sh test-oracle-kill.sh test-oracle-chains.sh"
.PHONY: oracle-long FORCE
