"""How the benches of a whole factory make figures of what they saw, and refuse what would mean nothing."""

from typing import Any

import pytest

from bench import cold_start, first_token, idle, orders
from bench.first_token import Watched
from bench.support import Use

OUTPUT = (
    (0.8, "starting: listen\n"),
    (1.0, "starting: database\n"),
    (2.0, "starting: nodes\n"),
    (3.0, "Penstock is up after 2.9 s\n"),
    (3.1, "starting: its place is held; the nodes are starting it\n"),
    (4.0, "answer: Pen"),
    (4.1, "stock is a pipe.\nhello: order to first token\n  phase         since the order  \n"),
    (4.5, "  queued                    0 ms  \n  running                   750 ms  \n"),
    (4.5, "  first token                1.2 s  \nfirst token 1.2 s after the order, 4.0 s after\n"),
    (5.0, "stopped\n"),
)


def watched() -> Watched:
    found = Watched()
    for seconds, text in OUTPUT:
        found.feed(seconds, text)
    return found


def test_phases_add_up_to_the_first_token() -> None:
    phases = watched().phases()
    assert phases == {
        "phase_python_s": 0.8,
        "phase_listen_s": 0.2,
        "phase_database_s": 1.0,
        "phase_nodes_s": 1.0,
        "phase_order_and_first_token_s": 1.0,
    }
    assert sum(phases.values()) == pytest.approx(watched().at("answer:"))


def test_the_phases_of_the_record_are_read_in_seconds() -> None:
    expected = {"order_to_queued_s": 0.0, "order_to_running_s": 0.75, "order_to_first_token_s": 1.2}
    assert watched().since_order() == expected


def test_a_line_that_is_missing_shows_the_output() -> None:
    with pytest.raises(SystemExit, match="no line begins with 'billed'"):
        watched().at("billed")
    assert watched().at(first_token.BILLED) == 4.5


def service(number: int, state: str, running_at: str) -> dict[str, Any]:
    return {
        "id": f"svc_{number}",
        "state": state,
        "phases": [{"phase": "running", "at": running_at, "seconds_since_order": 0.5 * number}],
    }


LOAD = {"first_post_at": "2026-01-01T00:00:00+00:00", "accept_s": 0.5, "p50_ms": 1.0, "p99_ms": 2.0}


def test_rates_are_from_the_first_post_to_the_last_stamp() -> None:
    rows = [service(1, "running", "2026-01-01T00:00:01Z"), service(2, "running", "2026-01-01T00:00:04Z")]
    figures = orders.timing(rows, LOAD, 2)
    assert figures["services_running_per_s"] == 0.5
    assert figures["orders_accepted_per_s"] == 4
    assert figures["all_running_s"] == 4


@pytest.mark.parametrize(
    "rows", [[], [service(1, "running", "2026-01-01T00:00:01Z"), service(2, "failed", "")]]
)
def test_a_service_that_does_not_run_makes_the_figure_worthless(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(SystemExit, match="2 services were ordered"):
        orders.timing(rows, LOAD, 2)


def test_idle_figures_name_their_units() -> None:
    figures = idle.figures_of(Use(processes=2, rss_bytes=3_000_000, pss_bytes=2_000_000), 0.3, 30.0)
    expected = {"processes": 2, "pss_mb": 2.0, "rss_mb": 3.0, "cpu_percent_of_core": 1.0}
    assert figures == expected


def test_a_cold_start_is_known_by_its_longest_too() -> None:
    assert cold_start.worst([{"first_token_s": 1.25}, {"first_token_s": 2.5}]) == 2.5
