"""Logs of hosts: what agents tell is read by operators, newest first, written once, bounded, and nobody else's."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from penstock.actions import host_log
from penstock.base import limits
from penstock.base.clock import ManualClock, to_epoch_us
from penstock.base.errors import InvalidInputError, UnauthenticatedError
from penstock.control_plane import ControlPlane
from penstock.domain.host_log import LogLine
from penstock.drivers import wire_log
from penstock.engine.retention import RetentionEngine
from tests.fixtures.console import People
from tests.support.command_line import CommandLine
from tests.support.console import words
from tests.support.infrastructure import change, query
from tests.support.machine_objects import make_host
from tests.support.tenancy import Caller, Tenant

FIRST = LogLine("agent", "run1", 1, 1_000_000, "info", "agent_started")
WARNED = LogLine("agent", "run1", 2, 2_000_000, "warning", "libvirt_log_unreadable")
BROKE = LogLine("libvirtd", "f00-1", 90, 3_000_000, "error", "End of file")


def _counted(source: str) -> float:
    return REGISTRY.get_sample_value("penstock_host_log_lines_total", {"source": source}) or 0.0


def test_an_operator_reads_what_a_host_said(
    control_plane: ControlPlane, operator: Caller, acme: Tenant, clock: ManualClock, served: str
) -> None:
    context = control_plane.context
    agent_id, node_id = make_host(control_plane)
    before = _counted("agent")

    def read(**query: Any) -> list[str]:
        answer = operator.get(f"/v1/nodes/{node_id}/log", **query)
        assert answer.status_code == 200, answer.text
        return [line["text"] for line in answer.json()["items"]]

    assert read() == []
    assert host_log.take(context, agent_id, [FIRST, WARNED]) == 2
    assert host_log.take(context, agent_id, [FIRST, WARNED, BROKE]) == 1, "what was told before is not new"
    assert host_log.take(context, agent_id, []) == 0
    assert _counted("agent") - before == 2
    assert read() == ["End of file", "libvirt_log_unreadable", "agent_started"]
    assert read(source="agent") == ["libvirt_log_unreadable", "agent_started"]
    assert read(level="warning") == ["End of file", "libvirt_log_unreadable"]
    assert read(source="agent", level="error") == []
    page = operator.get(f"/v1/nodes/{node_id}/log", limit=2).json()
    assert page["items"][0] | {"id": 0} == {
        "id": 0,
        "at": "1970-01-01T00:00:03Z",
        "source": "libvirtd",
        "level": "error",
        "text": "End of file",
    }
    assert read(limit=2, before=page["next"]) == ["agent_started"]
    ahead = to_epoch_us(clock.now() + timedelta(days=900))
    restarted = replace(FIRST, run="run2", at_us=ahead, text="again\x1b[2J\x07")
    assert host_log.take(context, agent_id, [restarted]) == 1, "another run begins its numbers anew"
    assert read(limit=1) == ["again [2J"]
    newest = operator.get(f"/v1/nodes/{node_id}/log", limit=1).json()["items"][0]["at"]
    assert newest == operator.get(f"/v1/nodes/{node_id}/log").json()["items"][0]["at"]
    (row,) = query(context, "SELECT at FROM host_log WHERE run = 'run2'")
    assert row["at"] == clock.now(), "nothing was said in the future"
    shown = CommandLine(served, operator.key)("node", "log", "hv1", "--source", "libvirtd").stdout
    assert "End of file" in shown
    assert "agent_started" not in shown
    assert acme.admin.get(f"/v1/nodes/{node_id}/log").status_code == 404, "hosts are the operator's"
    assert operator.get(f"/v1/nodes/nod_{'0' * 26}/log").status_code == 404


def test_the_page_of_a_node_shows_it_to_operators_only(people: People) -> None:
    agent_id, node_id = make_host(people.plane)
    assert "What it said last" not in people.operator.get(f"/nodes/{node_id}").text
    host_log.take(people.plane.context, agent_id, [FIRST, replace(BROKE, text="<b>End</b> of file")])
    shown = people.operator.get(f"/nodes/{node_id}")
    assert "What it said last" in words(shown.text)
    assert "agent_started" in shown.text
    assert "&lt;b&gt;End&lt;/b&gt; of file" in shown.text
    assert people.admin.get(f"/nodes/{node_id}").status_code == 404


def test_each_log_is_bounded_in_lines_and_time(
    control_plane: ControlPlane, operator: Caller, clock: ManualClock
) -> None:
    context = control_plane.context
    agent_id, node_id = make_host(control_plane)
    host_log.take(context, agent_id, [BROKE])
    kept, step = limits.HOST_LOG_KEPT_LINES, limits.HOST_LOG_REPORT_LINES_MAX
    for begin in range(0, kept + step, step):
        host_log.take(context, agent_id, [replace(FIRST, number=begin + n) for n in range(step)])
    found = query(context, "SELECT source, count(*) AS n, min(number) AS first FROM host_log GROUP BY source")
    assert {row["source"]: (row["n"], row["first"]) for row in found} == {
        "agent": (kept, step),
        "libvirtd": (1, 90),
    }
    assert len(operator.get(f"/v1/nodes/{node_id}/log", limit=1_000).json()["items"]) == 1_000
    engine = RetentionEngine(control_plane.db, clock, batch=700)
    clock.advance(limits.HOST_LOG_KEPT)
    assert engine.tick() == 0
    clock.advance(timedelta(seconds=1))
    assert (engine.tick(), engine.tick(), engine.tick()) == (700, 301, 0)
    host_log.take(context, agent_id, [FIRST])
    change(context, "DELETE FROM node WHERE id = :id", id=node_id)
    assert query(context, "SELECT * FROM host_log") == []


def test_who_may_not_speak_or_speaks_for_many_is_not_heard(control_plane: ControlPlane) -> None:
    context = control_plane.context
    agent_id, _ = make_host(control_plane)
    change(context, "UPDATE node SET state = 'retired'")
    assert host_log.take(context, agent_id, [FIRST]) == 0
    change(context, "UPDATE agent SET state = 'revoked' WHERE id = :id", id=agent_id)
    with pytest.raises(UnauthenticatedError):
        host_log.take(context, agent_id, [FIRST])
    assert query(context, "SELECT * FROM host_log") == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("source", "kernel"),
        ("level", "loud"),
        ("before", "0"),
        ("before", "x"),
        ("limit", "0"),
        ("limit", "1001"),
    ],
)
def test_a_question_that_cannot_be_is_refused_by_field(
    control_plane: ControlPlane, operator: Caller, field: str, value: str
) -> None:
    _, node_id = make_host(control_plane)
    answer = operator.get(f"/v1/nodes/{node_id}/log", **{field: value})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)


LINE = {"source": "agent", "run": "r", "number": 1, "at_us": 1, "level": "info", "text": ""}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({"lines": [LINE], "more": 1}, "more"),
        ({"lines": [LINE] * (limits.HOST_LOG_REPORT_LINES_MAX + 1)}, "lines"),
        ({"lines": [LINE | {"source": "kernel"}]}, "lines.0.source"),
        ({"lines": [LINE | {"run": ""}]}, "lines.0.run"),
        ({"lines": [LINE | {"number": -1}]}, "lines.0.number"),
        ({"lines": [LINE | {"at_us": "now"}]}, "lines.0.at_us"),
        ({"lines": [LINE | {"level": "critical"}]}, "lines.0.level"),
        ({"lines": [LINE | {"text": "x" * (limits.HOST_LOG_CHARACTERS_MAX + 1)}]}, "lines.0.text"),
        ({"lines": [LINE | {"text": "\0"}]}, "lines.0.text"),
        ({"lines": [LINE | {"secret": "x"}]}, "lines.0.secret"),
    ],
    ids=["list", "more", "many", "source", "run", "number", "at", "level", "long", "nul", "field"],
)
def test_what_cannot_be_read_is_refused_by_field(body: object, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        wire_log.lines_from_json(body)
    assert caught.value.field == field
    assert wire_log.lines_from_json(wire_log.lines_to_json([FIRST, BROKE])) == [FIRST, BROKE]
