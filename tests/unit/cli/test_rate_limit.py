"""`penstock rate-limit` against a real API."""

import pytest

from tests.support.command_line import CommandLine
from tests.support.elastic import ElasticFactory
from tests.support.simulated_factory import SimulatedFactory


@pytest.fixture
def penstock(served: str, simulated: SimulatedFactory) -> CommandLine:
    return CommandLine(served, simulated.keys.demo_key)


def test_limits_are_set_listed_and_removed(penstock: CommandLine, simulated: SimulatedFactory) -> None:
    factory = ElasticFactory(simulated)
    penstock("service", "order", "llm", "--set", "model=tiny", "--name", "chat")
    factory.turn()
    project = penstock.json("project", "list")["items"][0]
    made = penstock.json(
        "rate-limit", "set", "--project", project["name"], "--tokens-per-day", "1000", "--priority", "low"
    )
    assert (made["subject"], made["tokens_per_day"], made["priority"]) == ("project", 1_000, "low")
    shown = penstock("rate-limit", "set", "--endpoint", "chat", "--microeur-per-month", "5000000").stdout
    assert "5.00" in shown
    listed = penstock("rate-limit", "list").stdout
    assert made["id"] in listed
    assert "endpoint" in listed
    assert penstock("rate-limit", "delete", made["id"], "--yes").exit_code == 0
    assert [one["subject"] for one in penstock.json("rate-limit", "list")["items"]] == ["endpoint"]


@pytest.mark.parametrize("subject", [(), ("--key", "key_1", "--endpoint", "chat")], ids=["none", "two"])
def test_whose_limits_they_are_must_be_said_once(penstock: CommandLine, subject: tuple[str, ...]) -> None:
    refused = penstock("rate-limit", "set", *subject, "--tokens-per-day", "5")
    assert refused.exit_code != 0
    assert "say whose limits these are" in refused.stderr


def test_what_is_not_ones_own_to_set_is_refused(penstock: CommandLine) -> None:
    refused = penstock("rate-limit", "set", "--tenant", "demo", "--tokens-per-day", "5")
    assert refused.exit_code != 0
