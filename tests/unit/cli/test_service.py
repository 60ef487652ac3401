"""`penstock service` and `penstock explain` against a factory of 2 x 4 simulated H100."""

import contextlib
import shlex
import threading
from collections.abc import Iterator

import pytest

from tests.support.command_line import CommandLine
from tests.support.elastic import ElasticFactory
from tests.support.simulated_factory import SimulatedFactory


@pytest.fixture
def penstock(served: str, simulated: SimulatedFactory) -> CommandLine:
    return CommandLine(served, simulated.keys.demo_key)


@contextlib.contextmanager
def turning(factory: SimulatedFactory) -> Iterator[None]:
    """Let the factory act beside the command, as its loops do."""
    stop = threading.Event()

    def turn() -> None:
        while not stop.wait(0.02):
            factory.turn()

    thread = threading.Thread(target=turn, name="factory")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_an_order_is_shown_with_its_phases_when_it_runs(
    penstock: CommandLine, simulated: SimulatedFactory
) -> None:
    ordered = penstock.json(
        "service", "order", "gpu", "--set", "count=3", "--set", "device_class=H100", "--name", "a"
    )
    assert (ordered["state"], ordered["spec"]["count"], ordered["spec"]["device_class"]) == (
        "queued",
        3,
        "H100",
    )
    simulated.turn(4)
    shown = penstock("service", "show", "a").stdout
    assert "running" in shown
    for phase in ("ordered", "queued", "placed", "started", "loaded", "running"):
        assert any(line.startswith(phase) for line in shown.splitlines()), shown
    assert "SINCE THE ORDER" in shown
    assert [phase["phase"] for phase in penstock.json("service", "show", "a")["phases"]][:2] == [
        "ordered",
        "queued",
    ]


def test_waiting_follows_the_phases_until_it_runs(penstock: CommandLine, simulated: SimulatedFactory) -> None:
    with turning(simulated):
        result = penstock("service", "order", "gpu", "--name", "b", "--wait", "--timeout", "30")
    assert result.exit_code == 0, result.stderr
    assert "b: ordered > queued > placed" in result.stderr
    assert "running" in result.stdout
    with turning(simulated):
        gone = penstock("service", "release", "b", "--yes", "--wait", "--timeout", "30")
    assert gone.exit_code == 0, gone.stderr
    assert "released" in gone.stdout


def test_waiting_ends_with_the_time_limit_and_says_that_it_goes_on(penstock: CommandLine) -> None:
    result = penstock("service", "order", "gpu", "--name", "c", "--wait", "--timeout", "0")
    assert result.exit_code == 3
    assert "it goes on by itself" in result.stderr


def test_a_dry_run_shows_price_and_place_and_orders_nothing(penstock: CommandLine) -> None:
    shown = penstock("service", "order", "gpu", "--dry-run", "-s", "count=2", "-s", "device_class=H100")
    assert shown.exit_code == 0, shown.stderr
    assert "5.00 EUR" in shown.stdout, "two H100 at 2.50 EUR"
    assert "yes" in shown.stdout
    plan = penstock.json(
        "service", "order", "gpu", "--dry-run", "--spec", '{"count": 2, "device_class": "H100"}'
    )
    assert plan["price"]["microeur_per_hour"] == 5_000_000
    assert penstock.json("service", "list", "--all")["items"] == []


def test_a_value_that_the_form_does_not_take_never_leaves_the_command_line(penstock: CommandLine) -> None:
    result = penstock("service", "order", "gpu", "--set", "count=many")
    assert (result.exit_code, "takes integer, not 'many'" in result.stderr) == (2, True)
    refused = penstock("service", "order", "gpu", "--set", "count=1000")
    assert (refused.exit_code, "spec.count" in refused.stderr) == (3, True)
    unknown = penstock("service", "order", "no-such-offer")
    assert (unknown.exit_code, "penstock offer list" in unknown.stderr) == (2, True)


def test_the_list_leaves_out_what_is_over_unless_asked(
    penstock: CommandLine, simulated: SimulatedFactory
) -> None:
    for name in ("d", "e"):
        penstock("service", "order", "gpu", "--name", name)
    simulated.turn(4)
    penstock("service", "release", "d", "--yes")
    simulated.turn(4)
    assert [s["name"] for s in penstock.json("service", "list")["items"]] == ["e"]
    assert {s["name"] for s in penstock.json("service", "list", "--all")["items"]} == {"d", "e"}
    assert [s["name"] for s in penstock.json("service", "list", "--state", "released")["items"]] == ["d"]
    again = penstock.json("service", "order", "gpu", "--name", "d")
    assert penstock.json("service", "show", "d")["id"] == again["id"], (
        "the live one goes before the released one"
    )


def test_a_release_with_a_grace_is_taken_back(penstock: CommandLine, simulated: SimulatedFactory) -> None:
    penstock.json("service", "order", "gpu", "--name", "kept")
    simulated.turn(4)
    asked = penstock("service", "release", "kept", "--grace", "10m")
    assert "`penstock service keep` takes it back" in asked.stderr
    later = penstock.json("service", "release", "kept", "--grace", "10m", "--yes")
    assert (later["wanted"], later["release_at"] is None) == ("running", False)
    assert penstock.json("service", "keep", "kept")["release_at"] is None
    assert penstock("service", "release", "kept", "--grace", "soon", "--yes").exit_code == 2


def test_a_release_says_what_it_affects_before_it_is_done(
    penstock: CommandLine, simulated: SimulatedFactory
) -> None:
    penstock("service", "order", "gpu", "--name", "f")
    simulated.turn(4)
    asked = penstock("service", "release", "f")
    assert asked.exit_code == 2
    assert "Release 'f' (running on " in asked.stderr
    assert "--yes" in asked.stderr
    assert penstock.json("service", "show", "f")["wanted"] == "running"
    assert penstock.json("service", "release", "f", "--yes")["wanted"] == "released"


def test_explain_says_why_it_waits_and_its_command_is_an_order_that_runs(
    penstock: CommandLine, simulated: SimulatedFactory
) -> None:
    penstock("service", "order", "gpu", "--name", "big", "-s", "count=6", "-s", "device_class=H100")
    simulated.turn(4)
    penstock("service", "order", "gpu", "--name", "late", "-s", "count=4", "-s", "device_class=H100")
    simulated.turn(4)
    shown = penstock("explain", "late")
    assert shown.exit_code == 0, shown.stderr
    assert "2 of the 4 H100 it needs are free" in shown.stdout
    assert "Would succeed" in shown.stdout
    commands = [line.strip() for line in shown.stdout.splitlines() if line.strip().startswith("penstock ")]
    told = penstock.json("explain", "late")["explanation"]["counterfactuals"]
    assert [one["command"] for one in told if one["command"]] == commands != []
    ordered = penstock(*shlex.split(commands[0])[1:], "--name", "tried", "-o", "json")
    assert ordered.exit_code == 0, ordered.stderr
    simulated.turn(4)
    assert penstock.json("service", "show", "tried")["state"] == "running"


def test_explain_says_why_it_is_where_it_is(penstock: CommandLine, simulated: SimulatedFactory) -> None:
    penstock("service", "order", "gpu", "--name", "g")
    simulated.turn(4)
    shown = penstock("explain", "g").stdout
    assert "placed" in shown
    assert "Reasons" in shown
    missing = penstock("explain", "nothing")
    assert (missing.exit_code, "no service is called" in missing.stderr) == (2, True)


def test_scale_changes_and_shows_how_replicas_follow_the_load(
    penstock: CommandLine, simulated: SimulatedFactory
) -> None:
    factory = ElasticFactory(simulated)
    penstock("service", "order", "llm", "--set", "model=tiny", "--name", "chat")
    factory.turn()
    fixed = penstock("service", "scale", "chat").stdout
    assert "a fixed number" in fixed
    changed = penstock.json("service", "scale", "chat", "--min", "2", "--max", "3", "--ttft-ms", "400")
    assert (changed["policy"]["replicas_min"], changed["policy"]["ttft_target_ms"]) == (2, 400)
    factory.turn()
    shown = penstock("service", "scale", "chat").stdout
    assert "1 to 2: replicas_min or replicas_max say so" in shown
    assert "2 of 2 wanted are ready; last from 1 to 2" in " ".join(penstock("explain", "chat").stdout.split())
    refused = penstock("service", "scale", "chat", "--min", "9")
    assert refused.exit_code != 0
    assert "above replicas_max" in refused.stderr


def test_a_promise_is_set_shown_with_its_burn_and_taken_back(
    penstock: CommandLine, simulated: SimulatedFactory
) -> None:
    factory = ElasticFactory(simulated)
    penstock("service", "order", "llm", "--set", "model=tiny", "--name", "chat")
    factory.turn()
    assert "nothing" in penstock("service", "objective", "chat").stdout
    options = ("--ttft-ms", "400", "--token-ms", "40", "--availability", "99.9")
    shown = " ".join(penstock("service", "objective", "chat", *options).stdout.split())
    assert "the first token within 400 ms and each further one within 40 ms for 99 %" in shown
    assert "99.9 % do not fail" in shown
    assert "AVAILABILITY BURN" in shown
    assert penstock.json("service", "objective", "chat")["objective"]["token_ms"] == 40
    assert "nothing" in penstock("service", "objective", "chat", "--none").stdout
