"""An endpoint elsewhere from order to release: its secret sealed, its addresses judged, its key in the gateway alone."""

from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from penstock.actions import agent as agent_actions
from penstock.actions import node as node_actions
from penstock.actions import secret as secret_actions
from penstock.actions.enrolment import SiteFacts
from penstock.actions.gateway import read_snapshot
from penstock.agent.in_process_link import InProcessLink
from penstock.agent.loop import Agent
from penstock.base.clock import SystemClock
from penstock.control_plane import ControlPlane
from penstock.drivers.openai_compatible.driver import OpenAICompatibleDriver
from penstock.store.database import SYSTEM
from tests.fixtures.factory import plain
from tests.support.infrastructure import node_facts
from tests.support.peer import Peer
from tests.support.tenancy import Tenant

KEY = "sk-the-key-of-the-other-site"


class Site:
    """A node whose agent watches servers elsewhere."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane = plane
        plane.seal_with(folder / "secrets.key")
        plane.seed()
        driver = OpenAICompatibleDriver(
            folder / "peers",
            SystemClock(),
            lambda allocation_id: secret_actions.opened_for(plane.context, allocation_id),
            allowed=(ip_network("127.0.0.0/8"),),
        )
        agent_id = agent_actions.ensure_in_process(plane.context, "local")
        nodes = [node_facts("n1")]
        node_actions.enroll(
            plane.context,
            agent_id,
            SiteFacts("local", simulated=False),
            nodes,
            {"n1": ("openai_compatible",)},
        )
        self.agent = Agent(InProcessLink(plane.context, agent_id), {driver.name: driver}, SystemClock())

    def until(self, done: Callable[[], bool]) -> None:
        """Let engine and agent act until ``done``."""
        for _ in range(500):
            while self.plane.services.tick():
                pass
            self.agent.step(0.02)
            if done():
                return
        pytest.fail("it does not come about")

    def models(self) -> list[dict[str, Any]]:
        """Return what the gateway is told."""
        with self.plane.db.transaction(SYSTEM) as connection:
            return read_snapshot(connection, self.plane.clock.now(), self.plane.context.vault)["models"]


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    monkeypatch.setenv("PENSTOCK_UPSTREAM_NETWORKS", "127.0.0.0/8")
    made = Peer()
    yield made
    made.close()


@pytest.fixture
def site(control_plane: ControlPlane, tmp_path: Path) -> Site:
    return Site(control_plane, tmp_path)


def order(tenant: Tenant, **spec: Any) -> Any:
    body = {"offer": "llm-external", "project": tenant.project_id, "name": "theirs", "spec": spec}
    return tenant.member.post("/v1/services", **body)


def put_secret(tenant: Tenant, value: str = KEY) -> dict[str, Any]:
    answer = tenant.member.put("/v1/secrets", project=tenant.project_id, name="other", value=value)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_from_order_to_release(site: Site, peer: Peer, acme: Tenant) -> None:
    secret = put_secret(acme)
    assert "value" not in secret
    url = f"http://127.0.0.1:{peer.port}"
    service = order(acme, urls=[url], model="m", secret="other", slots=7).json()
    site.until(lambda: acme.member.get(f"/v1/services/{service['id']}").json()["state"] == "running")
    assert set(peer.seen) == {f"Bearer {KEY}"}
    ((model,),) = [[one for one in site.models() if one["name"] == "theirs"]]
    (upstream,) = model["upstreams"]
    assert (model["model"], model["plain"]) == ("m", True)
    assert {name: upstream[name] for name in ("url", "slots", "guard", "api_key", "cancel")} == {
        "url": url + "/v1",
        "slots": 7,
        "guard": ["127.0.0.0/8"],
        "api_key": KEY,
        "cancel": False,
    }
    assert acme.member.delete(f"/v1/secrets/{secret['id']}").json()["error"]["code"] == "conflict"
    put_secret(acme, "sk-a-new-one")
    assert [up["api_key"] for one in site.models() for up in one["upstreams"]] == ["sk-a-new-one"]
    acme.member.delete(f"/v1/services/{service['id']}")
    site.until(lambda: acme.member.get(f"/v1/services/{service['id']}").json()["state"] == "released")
    assert acme.member.delete(f"/v1/secrets/{secret['id']}").status_code == 204
    assert site.models() == []


def test_the_value_of_a_secret_is_in_no_table_and_in_no_answer(site: Site, peer: Peer, acme: Tenant) -> None:
    secret = put_secret(acme)
    order(acme, urls=[f"http://127.0.0.1:{peer.port}"], model="m", secret="other")
    site.until(lambda: bool(site.models()))
    with psycopg.connect(plain(site.plane.db.url)) as superuser:
        tables = superuser.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            rows = superuser.execute(
                sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table))
            ).fetchall()
            assert not any(KEY in row[0] for row in rows), table
    for path in (f"/v1/secrets/{secret['id']}", "/v1/secrets", "/v1/events", "/v1/services"):
        assert KEY not in acme.member.get(path).text


def test_a_secret_belongs_to_its_project(site: Site, peer: Peer, acme: Tenant, globex: Tenant) -> None:
    secret = put_secret(acme)
    assert globex.member.get(f"/v1/secrets/{secret['id']}").status_code == 404
    assert globex.member.get("/v1/secrets").json()["items"] == []
    refused = order(globex, urls=[f"http://127.0.0.1:{peer.port}"], model="m", secret="other")
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, "spec.secret")
    foreign = globex.member.put("/v1/secrets", project=acme.project_id, name="other", value="x")
    assert foreign.status_code == 404
    with site.plane.db.transaction(SYSTEM) as connection:
        sealed = connection.execute(sa.text("SELECT sealed FROM secret")).scalar_one()
    with pytest.raises(ValueError, match="sealed for something else"):
        site.plane.context.vault.open(sealed, "secret sec_another")


@pytest.mark.parametrize(
    ("urls", "field"),
    [
        (["http://10.0.0.1/v1"], "spec.urls.0"),
        (["https://example.com", "https://169.254.169.254/"], "spec.urls.1"),
        (["https://user:pass@example.com/"], "spec.urls.0"),
        ([], "spec.urls"),
        (["https://example.com", "https://example.com"], "spec.urls"),
    ],
)
def test_addresses_that_tenants_may_not_name_are_refused(
    site: Site, acme: Tenant, urls: list[str], field: str
) -> None:
    del site
    refused = order(acme, urls=urls, model="m")
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, field)


@pytest.mark.parametrize("value", ["two\nlines", " space", "ünïcode", ""])
def test_a_value_that_no_header_carries_is_refused(site: Site, acme: Tenant, value: str) -> None:
    del site
    answer = acme.member.put("/v1/secrets", project=acme.project_id, name="other", value=value)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "value")
