"""`penstock usage` and `penstock invoice`: the money of a month on the command line."""

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from penstock.base.clock import ManualClock
from penstock.cli.errors import CliError
from penstock.cli.usage import instant
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


@pytest.fixture
def as_acme(served: str, acme: Tenant) -> CommandLine:
    return CommandLine(served, acme.member.key)


@pytest.fixture
def llm(market: Market, acme: Tenant, clock: ManualClock) -> str:
    """A month with an hour of a device and some tokens, at its second day; the id of the LLM service."""
    market.hold(market.service(acme, name="train"), START, START + HOUR)
    llm = market.service(acme, offer="llm", simulated=False, name="chat")
    market.tokens(acme, llm, [(1_000_000, 500_000)], at=START)
    clock.advance(24 * HOUR)
    return llm


def test_usage_is_shown_with_its_price_and_what_is_simulated(as_acme: CommandLine, llm: str) -> None:
    shown = as_acme("usage")
    assert shown.exit_code == 0, shown.stderr
    assert "1.000 GPU-hours" in shown.stdout
    assert "1,000,000 tokens" in shown.stdout
    assert "Total 7.300000 EUR, of which 7.000000 EUR simulated" in shown.stdout
    document = as_acme.json("usage", "--service", "chat", "--by", "key")
    assert document["total_microeur"] == 300_000
    assert {row["key_id"] for row in document["items"]} == {"key_a"}
    assert llm not in as_acme("usage", "--by", "project").stdout


def test_a_time_that_cannot_be_and_an_unknown_group_are_refused(as_acme: CommandLine, llm: str) -> None:
    assert llm
    backwards = as_acme("usage", "--from", "2026-11-02", "--to", "2026-11-01")
    assert (backwards.exit_code, "earlier than" in backwards.stderr) == (3, True)
    ahead = as_acme("usage", "--from", "2400-01-01")
    assert (ahead.exit_code, "future" in ahead.stderr) == (3, True)
    unknown = as_acme("usage", "--by", "colour")
    assert (unknown.exit_code, "tenant, project, service" in unknown.stderr) == (3, True)
    nonsense = as_acme("usage", "--from", "soon")
    assert (nonsense.exit_code, "--from takes 2026-01-31" in nonsense.stderr) == (2, True)


def test_a_date_is_midnight_in_utc_and_an_offset_is_kept() -> None:
    assert instant("--from", None) is None
    assert instant("--from", "2026-01-31") == "2026-01-31T00:00:00+00:00"
    assert instant("--from", "2026-01-31T12:00:00+01:00") == "2026-01-31T12:00:00+01:00"
    with pytest.raises(CliError):
        instant("--from", "31.01.2026")


def test_a_month_is_drafted_finalised_checked_and_corrected(
    market: Market, acme: Tenant, as_operator: CommandLine, as_acme: CommandLine, llm: str, clock: ManualClock
) -> None:
    drafted = as_operator.json("invoice", "draft", "acme", "2026-11")
    assert (drafted["state"], drafted["total_microeur"], drafted["simulated_microeur"]) == (
        "draft",
        7_300_000,
        7_000_000,
    )
    early = as_operator("invoice", "finalise", drafted["id"], "--yes")
    assert (early.exit_code, "runs until 2026-12-01" in early.stderr) == (3, True)
    clock.advance(datetime(2026, 12, 2, tzinfo=UTC) - clock.now())
    asked = as_operator("invoice", "finalise", drafted["id"])
    assert (asked.exit_code, "at 7.300000 EUR?" in asked.stderr) == (2, True)
    final = as_operator.json("invoice", "finalise", drafted["id"], "--yes")
    assert (final["number"], final["state"]) == ("PEN-2026-000001", "final")
    assert "the same to the micro-euro: 7.300000 EUR" in as_operator("invoice", "check", final["id"]).stdout

    market.tokens(acme, llm, [(0, 1_000_000)], at=START)
    differs = as_operator("invoice", "check", final["id"]).stdout
    assert "invoiced 7.300000 EUR, rated again 7.700000 EUR" in differs
    correction = as_operator.json("invoice", "correct", final["id"], "--yes")
    assert (correction["number"], correction["total_microeur"]) == ("PEN-2026-000002", 400_000)
    settled = as_acme.json("invoice", "show", final["id"])
    assert (settled["total_microeur"], settled["settled_microeur"]) == (7_300_000, 7_700_000)
    told = as_acme("invoice", "show", final["id"], "--lines").stdout
    assert "PEN-2026-000002 (0.400000 EUR)" in told
    assert "GB200: 1.000 GPU-hours (simulated)" in told
    assert len(as_acme.json("invoice", "list")["items"]) == 2
    assert as_acme("invoice", "correct", final["id"], "--yes").exit_code == 3


def test_the_csv_has_the_names_of_focus_and_sums_to_the_invoice(
    as_operator: CommandLine, as_acme: CommandLine, llm: str, tmp_path: Path
) -> None:
    drafted = as_operator.json("invoice", "draft", "acme", "2026-11")
    text = as_acme("invoice", "csv", drafted["id"]).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert sum(Decimal(row["BilledCost"]) for row in rows) == Decimal("7.3")
    assert sum(int(row["x_AmountMicroeur"]) for row in rows) == 7_300_000
    gpu = next(row for row in rows if row["PricingUnit"] == "GPU Hours")
    assert gpu["PricingQuantity"] == "1.000000000"
    assert gpu["ConsumedQuantity"] == "3600.000000000"
    assert gpu["x_Simulated"] == "true"
    assert gpu["ChargePeriodStart"] == "2026-11-01T00:00:00Z"
    assert {row["ResourceId"] for row in rows if row["ConsumedUnit"] == "Tokens"} == {llm}
    saved = tmp_path / "november.csv"
    assert as_acme("invoice", "csv", drafted["id"], "--file", str(saved)).exit_code == 0
    assert saved.read_bytes().replace(b"\r\n", b"\n") == text.encode().replace(b"\r\n", b"\n")
    nowhere = as_acme("invoice", "csv", drafted["id"], "--file", str(tmp_path / "no" / "x.csv"))
    assert (nowhere.exit_code, "cannot write" in nowhere.stderr) == (2, True)
