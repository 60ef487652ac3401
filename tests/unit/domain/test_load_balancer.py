"""Load balancers by themselves: their state and why, who carries them, how counters add up."""

from typing import Any

import pytest

from penstock.domain.load_balancer import (
    LOAD_BALANCER_STATE_SENTENCES,
    LoadBalancerState,
    Seen,
    choose_host,
    moved,
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


def test_counters_go_on_in_another_process() -> None:
    assert moved({"sessions": 5}, {"sessions": 8}, "1", "1") == {"sessions": 3}
    assert moved({"sessions": 5}, {"sessions": 2}, "2", "1") == {"sessions": 2}
    assert moved({"sessions": 5}, {"sessions": 2}, "1", "1") == {"sessions": 2}, (
        "a number that was used again"
    )
    assert moved({}, {"sessions": 2}, "1", None) == {"sessions": 2}
