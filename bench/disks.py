# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""File systems to measure on, and the disk images on them."""

import os
import subprocess

from util import BenchError, run

IMAGE_SIZE = 12 << 30           # of a file system's own image; sparse
BLOCK = 1 << 20

# Where the disk is as large as can be: ext4 ends one block before 16 TiB.
LARGEST = (16 << 40) - (64 << 10)


def mount_image(work, kind):
    """A loop mount of a new file system.  Needs root."""
    image = work.path("image")
    where = work.path("mnt")
    with open(image, "wb") as f:
        f.truncate(IMAGE_SIZE)
    if kind == "ext4":
        run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,"
             "lazy_journal_init=0", image])
    else:
        run(["mkfs.xfs", "-q", "-f", image])
    os.mkdir(where)
    run(["mount", "-o", "loop", image, where])
    work.defer(lambda: unmount(where, image))
    return where


def mount_tmpfs(work):
    where = work.path("mnt")
    os.mkdir(where)
    run(["mount", "-t", "tmpfs", "-o", "size=90%", "tmpfs", where])
    work.defer(lambda: unmount(where, None))
    return where


def unmount(where, image):
    if subprocess.run(["umount", where], check=False,
                      stderr=subprocess.DEVNULL).returncode != 0:
        subprocess.run(["umount", "-l", where], check=False)
    if image:
        os.unlink(image)


def make_fs(work, kind):
    """A directory on a file system of that kind; here: as it comes."""
    if kind == "here":
        where = work.path("here")
        os.mkdir(where)
        return where
    if os.geteuid() != 0:
        raise BenchError("%s: only root may mount it (try --fs here)" % kind)
    return mount_tmpfs(work) if kind == "tmpfs" else mount_image(work, kind)


def fill(path, size):
    """An image full of data, none of it zero."""
    chunks = [os.urandom(BLOCK) for _ in range(16)]
    with open(path, "wb") as f:
        for i in range(size // BLOCK):
            f.write(chunks[i % 16])


def sparse(path, size):
    with open(path, "wb") as f:
        f.truncate(size)


def settle(where):
    """Have written back what others wrote, lest the next one pay for it."""
    run(["sync", "-f", where])
