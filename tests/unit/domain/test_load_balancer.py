"""Load balancers by themselves: their state and why, who carries them, how counters add up."""

from typing import Any

import pytest

from penstock.domain.load_balancer import (
    LOAD_BALANCER_STATE_SENTENCES,
    LoadBalancerState,
    Seen,
    choose_host,
    config_of,
    moved,
    next_host,
    state_of,
)


def seen(**more: Any) -> Seen:
    facts: dict[str, Any] = {
        "wanted": "present",
        "placed": True,
        "current": True,
        "problem": None,
        "members": ["up", "draining"],
    }
    return Seen(**{**facts, **more})


@pytest.mark.parametrize(
    ("facts", "state", "word"),
    [
        ({}, "active", ""),
        ({"wanted": "deleted", "problem": "x"}, "deleting", ""),
        ({"placed": False}, "waiting", "HAProxy"),
        ({"problem": "the disk is full"}, "degraded", "the disk is full"),
        ({"current": False}, "starting", ""),
        ({"members": []}, "degraded", "no members"),
        ({"members": ["up", "down", "gone"]}, "degraded", "2 of 3"),
        ({"members": ["unknown"]}, "active", ""),
    ],
    ids=lambda one: one if isinstance(one, str) and one else "case",
)
def test_the_state_says_what_is_wrong(facts: dict[str, Any], state: str, word: str) -> None:
    found, reason = state_of(seen(**facts))
    assert (found, word in reason) == (state, True)


def test_every_state_has_a_sentence() -> None:
    assert set(LOAD_BALANCER_STATE_SENTENCES) == set(LoadBalancerState)


def host(name: str, state: str = "ready", *, cordoned: bool = False) -> dict[str, Any]:
    return {"node_id": name, "state": state, "cordoned": cordoned}


def chosen(hosts: list[dict[str, Any]], now_on: str | None = None, **counts: dict[str, int]) -> str | None:
    found = choose_host(hosts, now_on, counts.get("near", {}), counts.get("load", {}))
    return None if found is None else str(found["node_id"])


def test_it_stays_where_it_is_well_and_goes_where_few_are_and_its_network_is() -> None:
    hosts = [host("a"), host("b"), host("c")]
    assert chosen(hosts, "b", load={"b": 9}) == "b"
    assert chosen(hosts, load={"a": 1, "b": 1}) == "c"
    assert chosen(hosts, near={"b": 4}) == "b"
    assert chosen([host("a", "unreachable"), host("b")], "a") == "b"
    assert chosen([host("a", cordoned=True), host("b")], "a") == "b", "a cordoned host gives it away"
    assert chosen([host("a", cordoned=True), host("b", cordoned=True)], "b") == "b", "but not to nobody"
    assert chosen([host("a", "unreachable")], "a") is None
    assert chosen([]) is None


def following(now_on: str | None, expected_on: str | None, *hosts: dict[str, Any]) -> str | None:
    chosen_host = choose_host(hosts, now_on, {}, {})
    found = next_host(hosts, now_on, expected_on, chosen_host)
    return None if found is None else str(found["node_id"])


def test_another_host_is_prepared_only_while_the_one_that_has_it_is_well_and_stays_the_one() -> None:
    a, b, c = host("a", cordoned=True), host("b"), host("c")
    assert following("a", None, a, b, c) == "b"
    assert following("a", "c", a, b, c) == "c", "what is prepared is not prepared again elsewhere"
    assert following("a", "c", a, b, host("c", cordoned=True)) == "b"
    assert following("a", "c", a, b, host("c", "unreachable")) == "b"
    assert following("a", None, host("a"), b) is None
    assert following("a", None, host("a", "unreachable"), b) is None, "there is nobody to wait for"
    assert following(None, None, b, c) is None


def test_whoever_is_ready_to_take_over_is_not_told_of_members_that_are_ill_unless_all_are() -> None:
    members = [{"address": f"10.0.0.{number}", "port": 80, "weight": 1} for number in (2, 3)]
    row: dict[str, Any] = {"id": "lbl_1", "algorithm": "source", "listeners": [], "health_check": {}}

    def told(health: dict[str, Any], *, standby: bool = True) -> list[str]:
        config = config_of({**row, "health": health}, {}, members, {}, standby=standby)
        assert config.get("standby", False) is standby
        return [str(one["address"]) for one in config["members"]]

    ill = {"10.0.0.2:80": ["down", "L4CON"], "10.0.0.3:80": ["up", ""]}
    assert told(ill) == ["10.0.0.3"]
    assert told(ill, standby=False) == ["10.0.0.2", "10.0.0.3"]
    assert told({key: ["down", ""] for key in ill}) == ["10.0.0.2", "10.0.0.3"]


def test_counters_go_on_in_another_process() -> None:
    assert moved({"sessions": 5}, {"sessions": 8}, "1", "1") == {"sessions": 3}
    assert moved({"sessions": 5}, {"sessions": 2}, "2", "1") == {"sessions": 2}
    assert moved({"sessions": 5}, {"sessions": 2}, "1", "1") == {"sessions": 2}, (
        "a number that was used again"
    )
    assert moved({}, {"sessions": 2}, "1", None) == {"sessions": 2}
