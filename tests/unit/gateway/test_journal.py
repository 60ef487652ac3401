"""The journal: what is written survives, what was cut off is recovered once, what was delivered goes away."""

import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.gateway.journal import Journal, read_segment
from penstock.gateway.records import final_line
from tests.support.waiting import until


def progress_line(record: dict[str, Any]) -> bytes:
    """Return the line of a request that still runs."""
    return final_line({**record, "progress": True})


def record(identity: str, tokens: int = 5, tenant: str = "ten_a") -> dict[str, object]:
    return {
        "id": identity,
        "tenant": tenant,
        "prompt_tokens": 1,
        "completion_tokens": tokens,
        "ending": "stop",
    }


def make(folder: Path, **limits: Any) -> Journal:
    return Journal(folder, **{"bytes_max": 1 << 20, "segment_bytes_max": 1 << 16, **limits})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = make(tmp_path)
    made.open()
    yield made
    made.close()


def lines(folder: Path) -> list[Any]:
    return [
        json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()
    ]


def test_a_record_is_on_disk_when_append_returns(tmp_path: Path, journal: Journal) -> None:
    journal.append(final_line(record("a")))
    assert lines(tmp_path) == [record("a")]
    assert (tmp_path / "000000000001.jsonl").stat().st_mode & 0o777 == 0o600


def test_segments_are_handed_out_in_order_and_deleted_when_acknowledged(
    tmp_path: Path, journal: Journal
) -> None:
    assert journal.oldest_sealed() is None
    for name in ("a", "b"):
        journal.append(final_line(record(name)))
        assert journal.has_records
        journal.seal(b"")
        assert not journal.has_records
    until(lambda: journal.sealed_count == 2, "both are sealed")
    for name in ("a", "b"):
        path = journal.oldest_sealed()
        assert path is not None
        assert list(read_segment(path)) == [record(name)]
        journal.acknowledged(path)
        assert not path.exists()
    assert journal.backlog_bytes == 0
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


def test_an_empty_segment_is_not_sealed(tmp_path: Path, journal: Journal) -> None:
    journal.seal(b"")
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


def test_a_restart_finds_everything_and_recovers_what_was_cut_off(tmp_path: Path) -> None:
    first = make(tmp_path)
    first.open()
    first.append(final_line(record("done", 7)))
    first.append(progress_line(record("running", 3)), 0)
    first.append(progress_line(record("running", 9)), 0)
    first.append(progress_line(record("ended", 2)), 0)
    first.append(final_line(record("ended", 4)))
    first.close()
    second = make(tmp_path)
    found = second.open()
    assert (found.records, found.cut_off, found.tokens["tenant", "ten_a"]) == (3, 1, 8 + 5 + 10)
    second.close()
    final = [line for line in lines(tmp_path) if not line.get("progress")]
    assert [(line["id"], line["ending"]) for line in final] == [
        ("done", "stop"),
        ("ended", "stop"),
        ("running", "error"),
    ]
    assert final[-1]["completion_tokens"] == 9
    third = make(tmp_path)
    assert third.open().cut_off == 0
    third.close()


def test_what_still_runs_is_carried_into_the_next_segment(tmp_path: Path) -> None:
    first = make(tmp_path)
    first.open()
    first.append(progress_line(record("running", 3)), 0)
    first.append(final_line(record("done")))
    first.seal(progress_line(record("running", 3)))
    path = until(first.oldest_sealed, "it is sealed")
    first.acknowledged(path)
    first.close()
    second = make(tmp_path)
    assert second.open().cut_off == 1
    second.close()


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "000000000004.jsonl").write_bytes(final_line(record("a")) + b'{"id": "b", "prom')
    (tmp_path / "refused.ndjson").write_text("{}\n")
    journal = make(tmp_path)
    found = journal.open()
    assert (found.records, found.unreadable) == (1, 1)
    journal.append(final_line(record("c")))
    journal.close()
    assert (tmp_path / "000000000005.jsonl").exists()


def test_a_full_journal_says_so(tmp_path: Path) -> None:
    journal = make(tmp_path, bytes_max=300, segment_bytes_max=100)
    journal.open()
    assert journal.can_serve
    for name in "abcd":
        journal.append(final_line(record(name)))
    assert not journal.can_serve
    assert journal.wants_seal
    journal.close()


def test_what_a_full_disk_refuses_is_kept_and_written_later_in_order(tmp_path: Path) -> None:
    """A file size limit of this process stands in for the disk: the kernel refuses the write in the same way."""
    journal = make(tmp_path)
    journal.open()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        line = final_line(record("a"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(line) + 10, before[1]))
        for name in ("a", "b", "c"):
            journal.append(final_line(record(name)))
        assert not journal.can_serve
        journal.retry()
        assert not journal.can_serve
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    journal.retry()
    assert journal.can_serve
    journal.close()
    assert [line["id"] for line in lines(tmp_path)] == ["a", "b", "c"]


def test_sync_is_done_in_the_background(tmp_path: Path, journal: Journal) -> None:
    journal.append(final_line(record("a")))
    for _ in range(50):
        journal.sync()
        journal.append(final_line(record("b")))
        journal.seal(b"")
    until(lambda: journal.sealed_count == 50, "all are sealed")
    assert journal.can_serve
    assert len(os.listdir(tmp_path)) == 51  # noqa: PTH208 - a count is all that is wanted
