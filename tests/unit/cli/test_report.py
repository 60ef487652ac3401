"""`penstock report`: the figures of the business case, and the ledger's proof."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import sqlalchemy as sa

from penstock.base.clock import ManualClock
from penstock.cli.errors import REFUSED, USAGE
from tests.fixtures.factory import START
from tests.support.command_line import CommandLine
from tests.support.commerce import HOUR, Market, make_market
from tests.support.tenancy import Caller, Tenant


@pytest.fixture
def market(operator: Caller) -> Market:
    return make_market(operator.plane)


@pytest.fixture
def as_operator(served: str, operator: Caller) -> CommandLine:
    return CommandLine(served, operator.key)


def test_a_thousand_gpus_at_seven_and_fifteen_euro(served: str, acme: Tenant, tmp_path: Path) -> None:
    chart = tmp_path / "roi.svg"
    shown = CommandLine(served, acme.member.key)(
        "report", "roi", "--gpus", "1000", "--price", "7", "--price", "15", "--chart", str(chart)
    )
    assert shown.exit_code == 0, shown.stderr
    rows = {line[: line.index("  ")]: line for line in shown.stdout.splitlines() if "  " in line}
    for name, seven, fifteen in (
        ("Per hour", "7,000 EUR", "15,000 EUR"),
        ("Per year (8,760 h)", "61.3 M EUR", "131.4 M EUR"),
        ("+1 point, per year", "0.61 M EUR", "1.31 M EUR"),
        ("+2 points, per year", "1.23 M EUR", "2.63 M EUR"),
        ("+3 points, per year", "1.84 M EUR", "3.94 M EUR"),
    ):
        assert rows[name].index(seven) < rows[name].index(fifteen)
    assert ET.fromstring(chart.read_text()).tag.endswith("svg")  # noqa: S314 - our own file


def test_the_live_report_is_the_operators_and_is_also_json_and_yaml(
    market: Market, as_operator: CommandLine, acme: Tenant, clock: ManualClock
) -> None:
    market.hold(market.service(acme), START, None)
    clock.advance(HOUR)
    found = as_operator.json("report", "roi")
    assert (found["gpu_thousandths"], found["effective_utilisation_ppm"]) == (4_000, 250_000)
    assert "gpu_thousandths: 4000" in as_operator("report", "roi", "-o", "yaml").stdout
    refused = CommandLine(as_operator.url, acme.admin.key)("report", "roi")
    assert (refused.exit_code, "forbidden" in refused.stderr) == (3, True)
    bad = as_operator("report", "roi", "--gpus", "10", "--price", "seven")
    assert (bad.exit_code, "price_eur" in bad.stderr) == (3, True)


def test_the_ledger_report_shows_states_values_and_no_error(
    market: Market, as_operator: CommandLine, acme: Tenant, clock: ManualClock
) -> None:
    market.hold(market.service(acme), START, None)
    clock.advance(2 * HOUR)
    shown = as_operator("report", "ledger")
    assert shown.exit_code == 0, shown.stderr
    sold = next(line for line in shown.stdout.splitlines() if line.startswith("sold_busy"))
    assert sold.split()[1:] == ["-", "yes", "2.000", "25.0", "%", "14.00", "EUR"]
    assert "conservation error 0 us" in shown.stdout


def test_the_calendar_shows_what_is_in_use(market: Market, as_operator: CommandLine, acme: Tenant) -> None:
    empty = as_operator("report", "calendar", "--from", "2026-11-02T00:00Z", "--to", "2026-11-03T00:00Z")
    assert (empty.exit_code, "nothing is in use" in empty.stdout + empty.stderr) == (0, True)
    assert market.devices
    found = as_operator.json("report", "calendar")
    assert [(one["device_class"], one["devices"]) for one in found["classes"]] == [("GB200", 4)]
    assert as_operator("report", "calendar", "--to", "yesterday").exit_code == USAGE
    assert CommandLine(as_operator.url, acme.admin.key)("report", "calendar").exit_code == REFUSED


def test_a_broken_ledger_is_reported_and_the_command_fails(
    market: Market, as_operator: CommandLine, clock: ManualClock
) -> None:
    clock.advance(HOUR)
    engine = sa.create_engine(market.plane.db.url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT set_config('penstock.scope', '*', true)"))
        connection.execute(sa.text("DELETE FROM segment WHERE device_id = :id"), {"id": market.devices[0]})
    engine.dispose()
    shown = as_operator("report", "ledger")
    assert shown.exit_code == 3
    assert f"conservation error {7 * 3_600_000_000} us" in shown.stdout
    assert "this is a defect" in shown.stderr
