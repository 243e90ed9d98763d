# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""A pull backup written with libnbd alone, as QEMU's users know it.

  front-incremental.py URI FILE [CHECKPOINT]

Without a checkpoint writes all of the disk to FILE, which is new; with one
brings FILE, the backup of that checkpoint, up to date.  Prints the bytes read.
"""

import os
import sys

import nbd

uri, path = sys.argv[1:3]
context = "qemu:dirty-bitmap:" + sys.argv[3] if sys.argv[3:] \
    else "base:allocation"

h = nbd.NBD()
h.set_uri_allow_local_file(True)
h.add_meta_context(context)
h.connect_uri(uri)
assert h.can_meta_context(context)
size = h.get_size()
wanted, at = [], 0


def extents(name, offset, entries, error):
    global at
    assert name == context and offset == at
    for length, flags in zip(entries[0::2], entries[1::2]):
        # A full backup leaves out what is a hole and zero, an incremental one
        # what is clean.
        if (flags & 1) if sys.argv[3:] else not (flags & 3) == 3:
            wanted.append((at, length))
        at += length


while at < size:
    h.block_status(min(size - at, 1 << 30), at, extents)

fd = os.open(path, os.O_WRONLY | (0 if sys.argv[3:] else
                                  os.O_CREAT | os.O_EXCL))
os.ftruncate(fd, size)
done = 0
for start, length in wanted:
    for offset in range(start, start + length, 1 << 21):
        n = min(1 << 21, start + length - offset)
        assert os.pwrite(fd, h.pread(n, offset), offset) == n
        done += n
os.close(fd)
h.shutdown()
print(done)
