"""`penstock offer` and `penstock price-book`: the catalogue from the operator's and the tenant's side."""

import pytest

from penstock.cli.errors import CliError
from penstock.cli.offer import price_text
from penstock.cli.price_book import price
from tests.support.command_line import CommandLine
from tests.support.commerce import Market, make_market
from tests.support.tenancy import Caller, Tenant


@pytest.fixture
def market(operator: Caller) -> Market:
    return make_market(operator.plane)


@pytest.fixture
def as_operator(served: str, operator: Caller, market: Market) -> CommandLine:
    assert market.devices
    return CommandLine(served, operator.key)


@pytest.fixture
def as_acme(served: str, acme: Tenant, market: Market) -> CommandLine:
    assert market.devices
    return CommandLine(served, acme.member.key)


def test_a_tenant_lists_offers_with_prices_and_shows_the_form(as_acme: CommandLine) -> None:
    listed = as_acme("offer", "list")
    assert listed.exit_code == 0, listed.stderr
    by_name = {line.split()[0]: line for line in listed.stdout.splitlines()[1:]}
    assert "7.00 EUR per hour" in by_name["gb200"]
    assert "1.00 EUR per hour" in by_name["gb200-slice"], "one seventh of 7 EUR"
    assert "0.10 EUR per million tokens in, 0.40 EUR per million tokens out" in by_name["llm-demo"]
    shown = as_acme("offer", "show", "gb200").stdout
    assert "1..576" in shown
    assert "memory_gib_min=0" in shown, "what is fixed is said"
    assert not any(line.startswith("device_class ") for line in shown.splitlines()), "and not asked for"


def test_an_operator_makes_edits_and_retires_an_offer(
    as_operator: CommandLine, as_acme: CommandLine, acme: Tenant, globex: Tenant
) -> None:
    made = as_operator.json(
        "offer",
        "create",
        "pair",
        "--kind",
        "gpu",
        "--title",
        "Two",
        "--fixed",
        '{"count": 2}',
        "--only-for",
        "acme",
    )
    assert (made["fixed"], made["eligible_tenants"], made["generation"]) == ({"count": 2}, [acme.id], 1)
    assert as_acme.json("offer", "show", "pair")["name"] == "pair"
    foreign = CommandLine(as_acme.url, globex.member.key)
    assert foreign("offer", "show", "pair").exit_code == 2, "its name is not there"
    assert foreign("offer", "show", made["id"]).exit_code == 3, "nor is its id"
    edited = as_operator.json("offer", "edit", "pair", "--title", "A pair", "--for-everybody")
    assert (edited["title"], edited["eligible_tenants"], edited["generation"]) == ("A pair", None, 2)
    assert foreign.json("offer", "show", "pair")["title"] == "A pair"
    assert as_operator("offer", "retire", "pair").exit_code == 2, "it asks first"
    assert as_operator.json("offer", "retire", "pair", "--yes")["state"] == "retired"
    assert "pair" not in {offer["name"] for offer in as_acme.json("offer", "list")["items"]}
    assert as_operator.json("offer", "activate", "pair")["state"] == "active"
    assert as_acme("offer", "retire", "pair", "--yes").exit_code == 3


def test_what_an_offer_cannot_fix_is_named(as_operator: CommandLine) -> None:
    refused = as_operator(
        "offer", "create", "x", "--kind", "gpu", "--title", "X", "--fixed", '{"count": 1000}'
    )
    assert (refused.exit_code, "fixed.count" in refused.stderr) == (3, True)
    nothing = as_operator("offer", "edit", "gb200")
    assert (nothing.exit_code, "say what to change" in nothing.stderr) == (2, True)


def test_an_operator_publishes_prices_on_top_of_the_latest(
    as_operator: CommandLine, as_acme: CommandLine
) -> None:
    asked = as_operator("price-book", "publish", "--set", "gpu_hours/GB200=6.50")
    assert (asked.exit_code, "on top of version 1" in asked.stderr) == (2, True)
    book = as_operator.json(
        "price-book",
        "publish",
        "--set",
        "gpu_hours/GB200=6.50",
        "--remove",
        "gpu_hours/A100",
        "--note",
        "winter",
        "-y",
    )
    prices = {(p["meter"], p["item"]): p["microeur_per_unit"] for p in book["prices"]}
    assert (book["version"], prices["gpu_hours", "GB200"], prices["gpu_hours", "H100"]) == (
        2,
        6_500_000,
        2_500_000,
    )
    assert ("gpu_hours", "A100") not in prices
    assert [b["version"] for b in as_acme.json("price-book", "list")["items"]] == [2, 1]
    assert "6.500000 EUR" in as_acme("price-book", "show").stdout
    assert "7.000000 EUR" in as_acme("price-book", "show", "1").stdout
    assert "6.50 EUR per hour" in as_acme("offer", "list").stdout
    assert as_acme("price-book", "publish", "--whole", "--set", "gpu_hours/*=0", "-y").exit_code == 3


@pytest.mark.parametrize(
    "text",
    ["gpu_hours/GB200", "GB200=1", "gpu_hours/GB200=x", "gpu_hours/GB200=0.0000001", "hours/x=1", "=1"],
)
def test_what_is_no_price_is_refused_before_it_is_sent(text: str) -> None:
    with pytest.raises(CliError) as refusal:
        price(text)
    assert refusal.value.exit_code == 2


def test_a_price_is_exact_and_an_item_may_hold_anything() -> None:
    assert price("output_tokens/a=b/c=0.000001") == {
        "meter": "output_tokens",
        "item": "a=b/c",
        "microeur_per_unit": 1,
    }


def test_the_price_of_an_offer_in_words() -> None:
    lines = [{"meter": "gpu_hours", "item": f"C{n}", "microeur_per_unit": n * 1_000_000} for n in range(1, 7)]
    assert price_text(None) is None
    assert price_text({"microeur_per_hour": 1_500_000, "prices": lines}) == "1.50 EUR per hour"
    told = price_text({"microeur_per_hour": None, "prices": lines})
    assert told is not None
    assert told.startswith("C1 1.00 EUR per GPU-hour, C2 2.00 EUR")
    assert told.endswith("C4 4.00 EUR per GPU-hour, ...")


def test_a_price_of_a_fraction_of_a_cent_is_not_nothing() -> None:
    lines = [{"meter": "disk_gib_hours", "item": "*", "microeur_per_unit": 120}]
    assert price_text({"microeur_per_hour": None, "prices": lines}) == "0.0001 EUR per GiB-hour of disk"
