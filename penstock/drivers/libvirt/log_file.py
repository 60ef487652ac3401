"""The newest lines of libvirtd's log file, from any line on, however often the file is replaced or cut."""

import os
import re
import stat
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import structlog

from penstock.base import limits
from penstock.base.clock import Clock, to_epoch_us
from penstock.domain.host_log import LEVELS, LogLine, plain

log = structlog.get_logger(__name__)

DEFAULT = Path("/var/log/libvirt/libvirtd.log")
_HEAD_BYTES = 4_096
# 2026-01-31 10:00:00.123+0000: 4711: error : virNetSocketReadWire:1791 : End of file
_LINE = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d{4}): \d+: (\w+) : (.*)$")


class LibvirtLog:
    """A file of log lines. What it is by name must be a file, not a link: whoever may write there chooses no other."""

    name = "libvirtd"

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._problem = ""

    def read(self, after: LogLine | None, bytes_max: int) -> Sequence[LogLine]:
        """Return whole lines that follow ``after``; of what is far behind only the end. Never raises OSError."""
        try:
            found = self._read(after, bytes_max)
        except OSError as error:
            problem = str(error.strerror or error)
            if problem != self._problem:
                log.warning("libvirt_log_unreadable", file=str(self._file), error=problem)
            self._problem = problem
            return []
        self._problem = ""
        return found

    def _read(self, after: LogLine | None, bytes_max: int) -> Sequence[LogLine]:
        opened = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            known = os.fstat(opened)
            if not stat.S_ISREG(known.st_mode):
                raise OSError("this is no file")
            head, newline, _ = os.pread(opened, _HEAD_BYTES, 0).partition(b"\n")
            if not newline and len(head) < _HEAD_BYTES:
                return []
            run, size = f"{known.st_ino:x}-{zlib.crc32(head):08x}", known.st_size
            behind = (
                after is None
                or after.run != run
                or not 0 <= size - after.number <= limits.HOST_LOG_BACKLOG_BYTES
            )
            begin = max(0, size - bytes_max) if behind or after is None else after.number
            content = os.pread(opened, bytes_max, begin)
        finally:
            os.close(opened)
        if behind and begin > 0:
            rest = content.partition(b"\n")[2]  # the first line may have begun before
            begin, content = begin + len(content) - len(rest), rest
        return list(self._lines(run, begin, content, full=len(content) >= bytes_max))

    def _lines(self, run: str, begin: int, content: bytes, *, full: bool) -> Iterator[LogLine]:
        whole, newline, _ = content.rpartition(b"\n")
        if not newline:
            if not full:
                return
            whole = content[:-1]  # a line longer than a report: it is told in pieces
        now_us, place = to_epoch_us(self._clock.now()), begin
        for raw in whole.split(b"\n"):
            place += len(raw) + 1
            said = _LINE.match(raw.decode("utf-8", "replace"))
            if said is None:
                yield LogLine(self.name, run, place, now_us, "info", plain(raw.decode("utf-8", "replace")))
                continue
            at, level, text = said.groups()
            yield LogLine(
                self.name,
                run,
                place,
                _instant_us(at, now_us),
                level if level in LEVELS else "info",
                plain(text),
            )


def _instant_us(text: str, otherwise_us: int) -> int:
    try:
        return max(0, to_epoch_us(datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f%z")))
    except ValueError:
        return otherwise_us
