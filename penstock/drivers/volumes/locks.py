"""QEMU's own locks on disk images, so that nobody writes into a file while it is copied, and the other way round.

QEMU says what it does to an image by read locks of single bytes of the file, and what it lets others do by further ones
(block/file-posix.c, RAW_LOCK_PERM_BASE, RAW_LOCK_SHARED_BASE; BLK_PERM_WRITE is bit 1). Over NFS they reach other hosts.
"""

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Generator
from pathlib import Path

from penstock.base.errors import PenstockError

_WRITES, _NO_WRITERS = 100 + 1, 200 + 1
_FLOCK = struct.Struct("hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid


class InUseError(PenstockError):
    """A running machine has the volume open."""

    code = "volume_in_use"
    status = 409


@contextlib.contextmanager
def unwritten(file: Path) -> Generator[None]:
    """Let nobody begin to write into an image meanwhile; InUseError if somebody does already."""
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _range(fcntl.F_RDLCK, _NO_WRITERS))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise InUseError("a running machine has this volume open") from error
            raise
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _range(fcntl.F_WRLCK, _WRITES))
        if _FLOCK.unpack(answer)[0] != fcntl.F_UNLCK:
            raise InUseError("a running machine has this volume open")
        yield
    finally:
        os.close(descriptor)


def _range(kind: int, first: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, first, 1, 0)
