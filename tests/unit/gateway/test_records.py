"""Ids are unique and sort by time; endings are the documented ones."""

import json
from typing import Any

from penstock.gateway.records import (
    ENDINGS,
    RecordIds,
    Usage,
    ending_of,
    final_line,
    key_part,
    model_part,
    record_line,
    tokens_of,
)
from penstock.gateway.snapshot import parse_snapshot
from tests.support.gateway_peers import key_entry, model_entry


def test_ids_are_unique_and_sort_by_time() -> None:
    ids = RecordIds()
    made = [ids.next(1_700_000_000_000_000 + i * 500) for i in range(70_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(len(one) == 30 and one.startswith("use_") for one in made)


def test_processes_do_not_share_ids() -> None:
    assert RecordIds().next(5)[14:24] != RecordIds().next(5)[14:24]


def test_a_used_up_counter_draws_anew() -> None:
    drawn = iter([b"\x00" * 7, b"\xff" * 7])
    ids = RecordIds(lambda _count: next(drawn))
    ids._count = (1 << 30) - 1
    first, second = ids.next(5), ids.next(5)
    assert first.endswith("zzzzzz")
    assert second.endswith("000000")
    assert first[14:24] != second[14:24]


def test_endings_are_documented() -> None:
    for reason in (
        "stop",
        "length",
        "tool_calls",
        "content_filter",
        "cancelled",
        "abort",
        "error",
        "odd",
        None,
    ):
        assert ending_of(reason) in ENDINGS
    assert (ending_of("tool_calls"), ending_of("abort"), ending_of(None)) == ("stop", "cancelled", "error")


def test_a_record_has_every_field() -> None:
    name = 'a "quoted" model \\'
    snapshot = parse_snapshot(
        {
            "version": 1,
            "keys": [key_entry("a")],
            "tenants": [],
            "models": [model_entry("http://h", name=name)],
        }
    )
    parts = key_part(snapshot.keys[0]), model_part(snapshot.models[0]), b'"alc"'
    common: dict[str, Any] = {"identity": b"use_x", "ending": "stop", "streamed": True}
    line = record_line(parts, Usage(3, 4, estimated=False), times_us=(1, 0, 2), **common)
    assert line.endswith(b"}\n")
    record = json.loads(line)
    assert set(record) == {
        *("id", "key", "tenant", "project", "principal", "service", "allocation", "model", "prompt_tokens"),
        *("completion_tokens", "ending", "started_at_us", "first_token_at_us", "ended_at_us", "streamed"),
        "estimated",
    }
    assert (record["tenant"], record["model"], record["allocation"]) == ("ten_a", name, "alc")
    assert (record["started_at_us"], record["ended_at_us"], record["ending"]) == (1, 2, "stop")
    assert (record["streamed"], record["estimated"]) == (True, False)
    assert record["first_token_at_us"] is None
    assert tokens_of(record) == 7
    assert tokens_of({"prompt_tokens": "x"}) == 0
    running = json.loads(
        record_line(parts, Usage(3, 4, estimated=True), times_us=(1, 7, 2), running=True, **common)
    )
    assert (running["progress"], running["first_token_at_us"], running["estimated"]) == (True, 7, True)
    assert json.loads(final_line(record)) == record
