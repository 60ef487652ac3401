"""What an agent of another machine may offer, and which addresses of its replicas are believed."""

from dataclasses import replace
from typing import Any

import pytest

from penstock.actions import agent as agent_actions
from penstock.actions import agent_reach
from penstock.actions import node as node_actions
from penstock.actions.agent_reach import Reach
from penstock.actions.context import Context
from penstock.actions.node import SiteFacts
from penstock.base.errors import InvalidInputError
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Observed, Phase
from penstock.store import agent as agent_store
from penstock.store.database import SYSTEM
from tests.support.infrastructure import add_allocation, add_service, node_facts, query

FAR, LOOPBACK = "10.0.0.17", "127.0.0.1"
SITE = SiteFacts("hall", simulated=False)


@pytest.fixture
def context(control_plane: ControlPlane) -> Context:
    return control_plane.context


@pytest.fixture
def agent_id(context: Context) -> str:
    id_ = context.new_id("agent")
    with context.db.transaction(SYSTEM) as connection:
        agent_store.insert(connection, agent_id=id_, name="far", transport="https", at=context.clock.now())
    return id_


def enroll(context: Context, agent_id: str, reach: Reach | None) -> dict[str, Any]:
    drivers = {"n1": ("ctranslate2", "local")}
    node_actions.enroll(context, agent_id, SITE, [node_facts("n1", devices=0)], drivers, reach)
    (row,) = query(context, "SELECT * FROM node WHERE name = 'n1'")
    return dict(row)


@pytest.mark.parametrize(
    ("source", "host", "answer"),
    [
        (LOOPBACK, None, "yes"),
        (LOOPBACK, LOOPBACK, "yes"),
        ("::1", "localhost", "yes"),
        ("::ffff:127.0.0.1", LOOPBACK, "yes"),
        (FAR, FAR, "yes"),
        (FAR, "gpu-17.example", "yes"),
        (FAR, None, "no"),
        (FAR, LOOPBACK, "no"),
        (FAR, "127.9.9.9", "no"),
        (FAR, "::1", "no"),
        (FAR, "localhost", "no"),
        (FAR, "LOCALHOST.", "no"),
        (FAR, "a.localhost", "no"),
        (FAR, "0.0.0.0", "no"),  # noqa: S104 - judged, not listened on
        ("unknown", LOOPBACK, "no"),
    ],
)
def test_the_gateway_reaches_its_own_machine_and_those_that_name_an_address(
    source: str, host: str | None, answer: str
) -> None:
    assert Reach(source, host).can_serve is (answer == "yes")


def test_a_node_out_of_reach_offers_no_replicas_and_says_why_until_it_is_in_reach(
    context: Context, agent_id: str
) -> None:
    row = enroll(context, agent_id, Reach(FAR, LOOPBACK))
    assert row["drivers"] == ["local"]
    assert FAR in row["notes"][-1]
    assert "--serve-at" in row["notes"][-1]
    row = enroll(context, agent_id, Reach(FAR, FAR))
    assert row["drivers"] == ["ctranslate2", "local"]
    assert row["notes"] == ["made up by a test"]
    assert enroll(context, agent_id, None)["drivers"] == ["ctranslate2", "local"]


def test_where_an_agent_is_reached_is_kept_and_told_once(context: Context, agent_id: str) -> None:
    for _ in range(2):
        enroll(context, agent_id, Reach(FAR, FAR))
    with context.db.transaction(SYSTEM) as connection:
        row = agent_store.get(connection, agent_id)
    assert row is not None
    assert (row["source_address"], row["serve_host"]) == (FAR, FAR)
    told = query(context, "SELECT data FROM event WHERE kind = 'agent.reach_changed'")
    assert [event["data"] for event in told] == [{"name": "far", "source_address": FAR, "serve_host": FAR}]


@pytest.mark.parametrize("host", ["", "x" * 254, "k\u00e4se", "a\nb"])
def test_a_host_that_cannot_be_is_refused(context: Context, agent_id: str, host: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        enroll(context, agent_id, Reach(FAR, host))
    assert caught.value.field == "serve_host"
    assert query(context, "SELECT id FROM node WHERE name = 'n1'") == []


@pytest.mark.parametrize(
    ("endpoint", "believed"),
    [
        (f"https://{FAR}:7073", "always"),
        (f"https://{FAR}:7073/v1", "always"),
        (f"http://{FAR}:7073", "never"),
        ("https://10.0.0.18:7073", "never"),
        ("https://169.254.169.254/latest", "never"),
        (f"https://{FAR}:7073/v1/../admin", "never"),
        (f"https://{FAR}:7073?x", "never"),
        (f"https://u@{FAR}:7073", "never"),
        (f"https://{FAR}:0", "never"),
        (f"https://{FAR}:99999", "never"),
        ("ftp://127.0.0.1:1", "never"),
        ("http://127.0.0.1:7070", "from this machine"),
        ("https://127.0.0.1:7073", "from this machine"),
        ("https://[::1]:7073", "from this machine"),
        ("http://localhost:7070", "from this machine"),
        ("nonsense", "never"),
    ],
)
def test_only_the_address_an_agent_said_is_believed_and_loopback_only_of_this_machine(
    endpoint: str, believed: str
) -> None:
    observed = Observed("alc_x", 1, Phase.READY, endpoint=endpoint)
    row: dict[str, Any] = {"transport": "https", "serve_host": FAR}
    for source, expected in ((LOOPBACK, believed != "never"), (FAR, believed == "always")):
        judged = agent_reach.believed({**row, "source_address": source}, observed)
        assert (judged == observed) is expected
        if not expected:
            assert (judged.phase, judged.code, judged.endpoint) == (Phase.FAILED, "endpoint_refused", None)
    assert agent_reach.believed({"transport": "in_process"}, observed) == observed
    silent = replace(observed, endpoint=None)
    assert agent_reach.believed({**row, "source_address": FAR}, silent) == silent


def test_a_rogue_agents_address_never_reaches_the_gateway(context: Context, agent_id: str) -> None:
    node = enroll(context, agent_id, Reach(FAR, FAR))
    add_service(context, "svc_1")
    replica = add_allocation(context, "svc_1", node["id"], agent_id)
    agent_actions.push(
        context, agent_id, [Observed(replica, 1, Phase.READY, endpoint="http://127.0.0.1:7070")]
    )
    (row,) = query(context, "SELECT phase, code, endpoint, message FROM allocation")
    assert (row["phase"], row["code"], row["endpoint"]) == ("failed", "endpoint_refused", None)
    assert "--serve-at" in row["message"]
    agent_actions.push(context, agent_id, [Observed(replica, 1, Phase.READY, endpoint=f"https://{FAR}:7073")])
    (row,) = query(context, "SELECT phase, code, endpoint FROM allocation")
    assert (row["phase"], row["code"], row["endpoint"]) == ("ready", None, f"https://{FAR}:7073")
