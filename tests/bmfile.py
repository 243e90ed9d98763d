# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""Bitmap files (common/bmfile.h), looked at and damaged by tests.

As a program:
  bmfile.py FILE FIELD...        prints each: a field of Live or Fixed, or
                                 `bits', the clusters that are set
  bmfile.py FILE FIELD=VALUE...  overwrites numbers of Live in place
  bmfile.py FILE BITMAP:CLUSTER  sets a bit of bitmap 0, 1 or 2
"""

import ctypes
import mmap
import sys

STATES = ["prepared", "active", "ended", "frozen", "inconsistent"]
HEADER = 4096
LIVE = 3072


class Fixed(ctypes.Structure):
    _fields_ = [
        ("magic", ctypes.c_char * 8), ("version", ctypes.c_uint32),
        ("header_size", ctypes.c_uint32), ("kind", ctypes.c_uint32),
        ("nr_bitmaps", ctypes.c_uint32), ("disk_size", ctypes.c_uint64),
        ("cluster_size", ctypes.c_uint64), ("nr_clusters", ctypes.c_uint64),
        ("file_size", ctypes.c_uint64), ("uuid", ctypes.c_uint8 * 16),
        ("export_name", ctypes.c_char * 72), ("name", ctypes.c_char * 72),
        ("parent", ctypes.c_char * 72), ("live", ctypes.c_char * 1024),
        ("scratch", ctypes.c_char * 1024), ("checksum", ctypes.c_uint32),
    ]


class Live(ctypes.Structure):
    _fields_ = [
        ("state", ctypes.c_uint32), ("clean", ctypes.c_uint32),
        ("boot_id", ctypes.c_uint8 * 16), ("dev", ctypes.c_uint64),
        ("ino", ctypes.c_uint64), ("size", ctypes.c_uint64),
        ("mtime_ns", ctypes.c_int64), ("ctime_ns", ctypes.c_int64),
        ("scratch_dev", ctypes.c_uint64), ("scratch_ino", ctypes.c_uint64),
        ("instant_ns", ctypes.c_int64), ("copied_clusters", ctypes.c_uint64),
        ("zero_clusters", ctypes.c_uint64), ("lost_clusters", ctypes.c_uint64),
        ("scratch_bytes", ctypes.c_uint64), ("reason", ctypes.c_char * 256),
        ("prev", ctypes.c_uint8 * 16), ("flags", ctypes.c_uint32),
        ("log", ctypes.c_uint8 * 16),
    ]


class File:
    """A bitmap file, mapped shared as its users do."""

    def __init__(self, path, write=False):
        with open(path, "r+b" if write else "rb") as f:
            self.map = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_WRITE
                                 if write else mmap.ACCESS_READ)

    @property
    def fixed(self):
        return Fixed.from_buffer_copy(self.map[:ctypes.sizeof(Fixed)])

    @property
    def live(self):
        return Live.from_buffer_copy(
            self.map[LIVE:LIVE + ctypes.sizeof(Live)])

    def start(self, bitmap):
        stride = ((self.fixed.nr_clusters + 63) // 64 * 8 + 4095) // 4096
        return HEADER + bitmap * stride * 4096

    def bits(self, bitmap=0):
        """The clusters that are set, a set of numbers."""
        start = self.start(bitmap)
        data = self.map[start:start + (self.fixed.nr_clusters + 7) // 8]
        return {i * 8 + b for i, byte in enumerate(data) if byte
                for b in range(8) if byte >> b & 1}

    def get(self, field):
        if field == "bits":
            return " ".join(str(b) for b in sorted(self.bits()))
        part = self.live if hasattr(Live, field) else self.fixed
        value = getattr(part, field)
        if field == "state":
            return STATES[value]
        if isinstance(value, bytes):
            return value.decode()
        return str(value) if isinstance(value, int) else bytes(value).hex()

    def put(self, field, value):
        at = getattr(Live, field)
        number = STATES.index(value) if field == "state" else int(value)
        self.map[LIVE + at.offset:LIVE + at.offset + at.size] = \
            number.to_bytes(at.size, sys.byteorder)


    def set(self, bitmap, cluster):
        at = self.start(bitmap) + cluster // 8
        self.map[at:at + 1] = bytes([self.map[at] | 1 << cluster % 8])


def main(path, words):
    file = File(path, any("=" in word or ":" in word for word in words))
    for word in words:
        if ":" in word:
            file.set(*map(int, word.split(":")))
        elif "=" in word:
            file.put(*word.split("=", 1))
        else:
            print(file.get(word))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
