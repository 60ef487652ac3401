"""What agents and the control plane say to each other survives the way, and what is wrong is named."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.drivers import wire
from penstock.drivers.base import DeviceFacts, NodeFacts, Observed, Phase

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=40)
COUNT = st.integers(0, 1 << 20)
BIG = st.integers(0, (1 << 63) - 1)
DEVICES = st.builds(
    DeviceFacts,
    index=st.integers(0, 1024),
    device_class=TEXT,
    model=TEXT,
    vendor=TEXT,
    memory_bytes=BIG,
    serial=st.none() | TEXT,
    uuid=st.none() | TEXT,
    pci_address=st.none() | TEXT,
    numa_node=st.none() | COUNT,
    nvlink_domain=st.none() | TEXT,
    health=st.sampled_from(["ok", "suspect", "failed"]),
    attach=st.sampled_from(["vfio", "mdev", "simulated"]),
    mdev_type=st.none() | TEXT,
)
DETAILS = st.lists(st.dictionaries(TEXT, st.none() | BIG | TEXT | st.booleans(), max_size=3), max_size=2).map(
    tuple
)
NODES = st.builds(
    NodeFacts,
    name=TEXT,
    architecture=TEXT,
    cpu_model=TEXT,
    cpu_cores=COUNT,
    cpu_threads=COUNT,
    memory_bytes=BIG,
    numa=DETAILS,
    disks=DETAILS,
    nics=DETAILS,
    devices=st.lists(DEVICES, max_size=3).map(tuple),
    rack=st.none() | TEXT,
    leaf=st.none() | TEXT,
    spine=st.none() | TEXT,
    core=st.none() | TEXT,
    power_feed=st.none() | TEXT,
    notes=st.lists(TEXT, max_size=2).map(tuple),
)
OBSERVED = st.builds(
    Observed,
    allocation_id=TEXT,
    generation=BIG,
    phase=st.sampled_from(Phase),
    at_us=st.dictionaries(st.sampled_from(["started", "ready"]), BIG),
    endpoint=st.none() | TEXT,
    busy_permille=st.none() | st.integers(0, 1000),
    code=st.none() | TEXT,
    message=st.none() | TEXT,
)


def over(body: Any) -> Any:
    return orjson.loads(orjson.dumps(body))


@given(st.lists(NODES, max_size=3, unique_by=lambda node: node.name), st.none() | TEXT)
def test_an_enrolment_survives_the_way(nodes: list[NodeFacts], serve_host: str | None) -> None:
    drivers = {node.name: ("local", "ctranslate2") for node in nodes}
    sent = wire.Enrolment("site", tuple(nodes), drivers, serve_host)
    assert wire.enrolment_from_json(over(wire.enrolment_to_json(sent))) == sent


@given(st.lists(OBSERVED, max_size=5), st.lists(TEXT, max_size=3))
def test_reports_survive_the_way(observations: list[Observed], silent: list[str]) -> None:
    got = wire.reports_from_json(over(wire.reports_to_json(observations, silent)))
    assert (list(got.observations), list(got.silent_nodes)) == (observations, silent)


def test_what_a_driver_says_is_made_to_fit() -> None:
    said = Observed("a", 1, Phase.FAILED, code="c" * 100, message="\0\ud800" + "x" * 5000)
    got = wire.reports_from_json(over(wire.reports_to_json([said], []))).observations[0]
    assert (len(got.code or ""), len(got.message or "")) == (63, limits.TEXT_CHARACTERS_MAX)
    assert (got.message or "").startswith("?x")


def test_wishes_survive_the_way_and_may_say_more() -> None:
    wish = wire.Wish(
        "alc_1", "r01t01", "simulated", 3, "present", {"node": "r01t01", "deep": [{"a": [1, None]}]}
    )
    body = over(wire.wishes_to_json(full=True, cursor=12, items=[wish]))
    body["news"] = "of a later version"
    body["items"][0]["more"] = 1
    assert wire.wishes_from_json(body) == wire.Wishes(full=True, cursor=12, items=[wish])


def test_joining_survives_the_way() -> None:
    at = datetime(2026, 3, 1, 12, 30, 1, tzinfo=UTC)
    assert wire.ca_from_json(over(wire.ca_to_json("pem"))) == "pem"
    request = wire.JoinRequest("pjt_x.y.z", "-----BEGIN", "node-7")
    assert wire.join_request_from_json(over(wire.join_request_to_json(request))) == request
    answer = wire.JoinAnswer("agt_1", "cert", "ca", at)
    assert wire.join_answer_to_json(answer)["expires_at"] == "2026-03-01T12:30:01Z"
    assert wire.join_answer_from_json(over(wire.join_answer_to_json(answer))) == answer
    renewed = wire.RenewAnswer("cert", at)
    assert wire.renew_answer_from_json(over(wire.renew_answer_to_json(renewed))) == renewed
    elsewhere = wire.RenewAnswer("cert", at.astimezone(timezone(timedelta(hours=2))))
    assert wire.renew_answer_from_json(over(wire.renew_answer_to_json(elsewhere))) == renewed
    assert wire.renew_request_from_json(over(wire.renew_request_to_json("csr"))) == "csr"
    assert wire.enrolled_from_json(over(wire.enrolled_to_json({"n": "nod_1"}))) == {"n": "nod_1"}


def a_node(**changes: Any) -> dict[str, Any]:
    node = {"name": "n1", "architecture": "x86_64", "cpu_model": "", "cpu_cores": 1, "cpu_threads": 1}
    return {"site": "s", "nodes": [{**node, "memory_bytes": 1, **changes}]}


def a_device(**changes: Any) -> dict[str, Any]:
    device = {"index": 0, "device_class": "H100", "model": "", "vendor": "", "memory_bytes": 1}
    return a_node(devices=[{**device, **changes}])


def a_report(**changes: Any) -> dict[str, Any]:
    return {"observations": [{"allocation_id": "a", "generation": 1, "phase": "ready", **changes}]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (None, "body"),
        ([], "body"),
        ({"nodes": []}, "site"),
        ({"site": "", "nodes": []}, "site"),
        ({"site": "x" * 64, "nodes": []}, "site"),
        ({"site": "s", "nodes": {}}, "nodes"),
        ({"site": "s", "nodes": [1]}, "nodes.0"),
        ({"site": "s", "nodes": [], "sit": 1}, "sit"),
        ({"site": "s", "nodes": [{}] * (wire.NODES_MAX + 1)}, "nodes"),
        (a_node(name=None), "nodes.0.name"),
        (a_node(name="a\0b"), "nodes.0.name"),
        (a_node(name="\ud800"), "nodes.0.name"),
        (a_node(name=["n"]), "nodes.0.name"),
        (a_node(cpu_cores=-1), "nodes.0.cpu_cores"),
        (a_node(cpu_cores=True), "nodes.0.cpu_cores"),
        (a_node(cpu_cores=1.0), "nodes.0.cpu_cores"),
        (a_node(cpu_cores="1"), "nodes.0.cpu_cores"),
        (a_node(memory_bytes=1 << 63), "nodes.0.memory_bytes"),
        (a_node(disks=["sda"]), "nodes.0.disks.0"),
        (a_node(disks=[{"a": {"b": {"c": {"d": 1}}}}]), "nodes.0.disks.0.a.b.c"),
        (a_node(disks=[{"a": "\0"}]), "nodes.0.disks.0.a"),
        (a_node(disks=[{"\0": "a"}]), "nodes.0.disks.0"),
        (a_node(notes=[7]), "nodes.0.notes.0"),
        (a_node(drivers="local"), "nodes.0.drivers"),
        (a_node(gpus=8), "nodes.0.gpus"),
        ({"site": "s", "nodes": a_node()["nodes"] * 2}, "nodes.1.name"),
        (a_device(index=5000), "nodes.0.devices.0.index"),
        (a_device(health="fine"), "nodes.0.devices.0.health"),
        (a_device(health=["ok"]), "nodes.0.devices.0.health"),
        (a_device(serial=12), "nodes.0.devices.0.serial"),
        (a_device(color="red"), "nodes.0.devices.0.color"),
        (a_device(device_class=""), "nodes.0.devices.0.device_class"),
    ],
)
def test_a_wrong_enrolment_is_refused_by_field(body: Any, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        wire.enrolment_from_json(body)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"observations": 1}, "observations"),
        ({"observations": [{}] * (limits.AGENT_PULL_BATCH + 1)}, "observations"),
        ({"silent_nodes": [""]}, "silent_nodes.0"),
        ({"silent": []}, "silent"),
        (a_report(phase="done"), "observations.0.phase"),
        (a_report(phase={}), "observations.0.phase"),
        (a_report(generation=-1), "observations.0.generation"),
        (a_report(busy_permille=1001), "observations.0.busy_permille"),
        (a_report(at_us=[1]), "observations.0.at_us"),
        (a_report(at_us={"ready": "now"}), "observations.0.at_us.ready"),
        (a_report(at_us={str(number): 1 for number in range(17)}), "observations.0.at_us"),
        (a_report(message="x" * (limits.TEXT_CHARACTERS_MAX + 1)), "observations.0.message"),
        (a_report(extra=1), "observations.0.extra"),
    ],
)
def test_a_wrong_push_is_refused_by_field(body: Any, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        wire.reports_from_json(body)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"token": "t", "csr_pem": "c"}, "name"),
        ({"token": "t", "csr_pem": "c", "name": "n", "admin": True}, "admin"),
        ({"token": "t" * 257, "csr_pem": "c", "name": "n"}, "token"),
        ({"token": "t", "csr_pem": 1, "name": "n"}, "csr_pem"),
    ],
)
def test_a_wrong_join_is_refused_by_field(body: Any, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        wire.join_request_from_json(body)
    assert caught.value.field == field


@pytest.mark.parametrize("expires_at", ["soon", "2026-01-01T00:00:00", 5, None])
def test_an_answer_without_a_proper_instant_is_refused(expires_at: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        wire.renew_answer_from_json({"certificate_pem": "c", "expires_at": expires_at})
    assert caught.value.field == "expires_at"


def test_wishes_that_are_half_wrong_are_wrong() -> None:
    wish = wire.Wish("alc_1", "n", "d", 1, "present", {})
    body = over(wire.wishes_to_json(full=True, cursor=1, items=[wish, wish]))
    body["items"][1]["wanted"] = "gone"
    with pytest.raises(InvalidInputError) as caught:
        wire.wishes_from_json(body)
    assert caught.value.field == "items.1.wanted"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_nothing_but_a_named_refusal_comes_of_nonsense(body: Any) -> None:
    readers: list[Any] = [
        wire.enrolment_from_json,
        wire.reports_from_json,
        wire.join_request_from_json,
        wire.renew_request_from_json,
        wire.wishes_from_json,
        wire.enrolled_from_json,
    ]
    wraps = [
        body,
        {"site": "s", "nodes": [body]},
        {"observations": [body]},
        {"nodes": body},
        {"items": [body]},
    ]
    for reader in readers:
        for wrapped in wraps:
            assert refused_field(reader, json.loads(json.dumps(wrapped))) != ""


def refused_field(reader: Any, body: Any) -> str | None:
    try:
        reader(body)
    except InvalidInputError as error:
        return error.field or ""
    return None


def test_power_goes_both_ways_and_a_state_that_is_none_is_refused() -> None:
    states = {"n1": "on", "n2": "waking", "n3": "off"}
    assert wire.power_from_json(json.loads(json.dumps(wire.power_to_json(states)))) == states
    wanted = {"n1": True, "n2": False}
    assert wire.power_wanted_from_json(json.loads(json.dumps(wire.power_wanted_to_json(wanted)))) == wanted
    with pytest.raises(InvalidInputError) as refused:
        wire.power_from_json({"states": [{"node": "n1", "state": "gone"}]})
    assert refused.value.field is not None
    assert "state" in refused.value.field
