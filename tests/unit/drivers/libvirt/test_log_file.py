"""The end of a log file that grows, is replaced, cut, enormous, binary, a link, or not there."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from penstock.base import limits
from penstock.base.clock import ManualClock, to_epoch_us
from penstock.drivers.libvirt.log_file import LibvirtLog

SAID = "2026-01-01 10:00:00.500+0000: 4711: error : virNetSocketReadWire:1791 : End of file\n"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
SHARE = 16 << 10


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "libvirtd.log"


@pytest.fixture
def log(file: Path) -> LibvirtLog:
    return LibvirtLog(file, ManualClock(NOW))


def test_lines_are_read_once_also_after_a_restart(file: Path, log: LibvirtLog) -> None:
    file.write_text(SAID + "half of a")
    (line,) = log.read(None, SHARE)
    assert (line.source, line.level, line.text) == (
        "libvirtd",
        "error",
        "virNetSocketReadWire:1791 : End of file",
    )
    assert line.at_us == to_epoch_us(datetime(2026, 1, 1, 10, 0, 0, 500_000, UTC))
    assert log.read(line, SHARE) == []
    with file.open("a") as more:
        more.write(" line\n2026-99-01 10:00:00.500+0000: 1: shout : what?\n")
    second, third = log.read(line, SHARE)
    assert (second.level, second.text, second.at_us) == ("info", "half of a line", to_epoch_us(NOW))
    assert (third.level, third.text, third.at_us) == ("info", "what?", to_epoch_us(NOW))
    again = LibvirtLog(file, ManualClock(NOW)).read(None, SHARE)
    assert [(one.run, one.number) for one in again] == [
        (one.run, one.number) for one in (line, second, third)
    ]


def test_a_file_that_was_replaced_or_cut_is_another_run(file: Path, log: LibvirtLog) -> None:
    file.write_text(SAID * 3)
    last = log.read(None, SHARE)[-1]
    file.rename(file.with_suffix(".1"))
    file.write_text("new one\n")
    (line,) = log.read(last, SHARE)
    assert (line.text, line.run != last.run) == ("new one", True)
    file.write_text("cut, and longer than before\n")
    (cut,) = log.read(line, SHARE)
    assert (cut.text, cut.run != line.run) == ("cut, and longer than before", True)


def test_reads_are_bounded_and_what_is_far_behind_is_left_out(file: Path, log: LibvirtLog) -> None:
    file.write_text("first\n")
    (first,) = log.read(None, SHARE)
    with file.open("a") as more:
        more.writelines(f"line {number:06}\n" for number in range(10_000))
    near = log.read(first, SHARE)
    assert near[0].text == "line 000000"
    assert len(near) == SHARE // len("line 000000\n")
    assert log.read(near[-1], SHARE)[0].text == f"line {len(near):06}"
    with file.open("a") as more:
        more.writelines(
            f"line {number:06}\n" for number in range(10_000, 10_000 + limits.HOST_LOG_BACKLOG_BYTES // 12)
        )
    far = log.read(first, SHARE)
    assert far[-1].text == f"line {9_999 + limits.HOST_LOG_BACKLOG_BYTES // 12:06}"
    assert all(line.text.startswith("line 0") and len(line.text) == 11 for line in far)


def test_endless_and_binary_lines_are_cut_and_cleaned(file: Path, log: LibvirtLog) -> None:
    file.write_bytes(b"\x00\x1b[2J\xff\xfeodd\n")
    (first,) = log.read(None, SHARE)
    assert first.text == "[2J��odd"
    with file.open("ab") as more:
        more.write(b"x" * 3 * SHARE + b"\nend\n")
    after = first
    told: list[str] = []
    while lines := log.read(after, SHARE):
        told += [line.text for line in lines]
        after = lines[-1]
    assert told[-1] == "end"
    assert {len(text) for text in told[:-1]} <= {limits.HOST_LOG_CHARACTERS_MAX, 3, 2, 1, 0}


def test_what_cannot_be_read_is_said_once_and_not_fatal(file: Path, tmp_path: Path, log: LibvirtLog) -> None:
    with structlog.testing.capture_logs() as said:
        assert log.read(None, SHARE) == []
        assert log.read(None, SHARE) == []
        (tmp_path / "secret").write_text("key\n")
        file.symlink_to(tmp_path / "secret")
        assert log.read(None, SHARE) == []
        file.unlink()
        file.mkdir()
        assert log.read(None, SHARE) == []
        file.rmdir()
        file.write_text("here again\n")
        assert len(log.read(None, SHARE)) == 1
        file.unlink()
        assert log.read(None, SHARE) == []
    told = [(line["event"], line["error"]) for line in said]
    gone = ("libvirt_log_unreadable", "No such file or directory")
    links = ("libvirt_log_unreadable", "Too many levels of symbolic links")
    assert told == [gone, links, ("libvirt_log_unreadable", "this is no file"), gone]
