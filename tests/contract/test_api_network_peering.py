"""Peerings over the API: who may ask, answer and end; which prefixes are refused, and what is told to whom."""

from typing import Any

import pytest
import sqlalchemy as sa

from penstock.control_plane import ControlPlane
from penstock.store.database import SYSTEM
from penstock.store.schema import audit, event, network_peering
from tests.support.networks import made, make_network, make_port, make_subnet
from tests.support.tenancy import Tenant

PATH = "/v1/network-peerings"


def refused(answer: Any, status: int, code: str, field: str | None = None) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["field"]) == (code, field), error
    return str(error["message"])


def ask(tenant: Tenant, mine: str, theirs: str, name: str = "link") -> Any:
    return tenant.member.post(PATH, network_id=mine, peer_network_id=theirs, name=name)


def with_subnet(tenant: Tenant, name: str, prefix: str) -> str:
    network_id = make_network(tenant, name)
    make_subnet(tenant, network_id, "front", prefix)
    return network_id


def test_two_tenants_agree_and_either_ends_it(
    control_plane: ControlPlane, acme: Tenant, globex: Tenant
) -> None:
    mine, theirs = with_subnet(acme, "a", "10.0.0.0/24"), with_subnet(globex, "g", "10.1.0.0/24")
    asked = made(ask(acme, mine, theirs))
    assert (asked["state"], asked["prefixes"], asked["peer_prefixes"]) == ("requested", ["10.0.0.0/24"], [])
    path = f"{PATH}/{asked['id']}"
    refused(acme.member.post(f"{path}/accept"), 403, "forbidden")
    refused(acme.member.post(f"{path}/refuse"), 403, "forbidden")
    refused(globex.auditor.post(f"{path}/accept"), 403, "forbidden")
    seen = globex.member.get(PATH, state="requested").json()["items"]
    assert [one["prefixes"] for one in seen] == [["10.0.0.0/24"]], "who is asked may know by whom"
    before = revisions(acme, mine) + revisions(globex, theirs)
    accepted = made(globex.member.post(f"{path}/accept"))
    assert (accepted["state"], accepted["peer_prefixes"]) == ("active", ["10.1.0.0/24"])
    assert globex.member.post(f"{path}/accept").json() == accepted, "again changes nothing"
    assert revisions(acme, mine) + revisions(globex, theirs) == [one + 1 for one in before]
    assert acme.member.get(path).json()["peer_prefixes"] == ["10.1.0.0/24"]
    assert "accepted already" in refused(globex.member.post(f"{path}/refuse"), 409, "conflict")
    refused(ask(globex, theirs, mine, "back"), 409, "conflict", "peer_network_id")
    assert acme.member.delete(path).status_code == 204
    assert globex.member.get(path).status_code == 404
    with control_plane.db.transaction(SYSTEM) as connection:
        told = connection.execute(
            sa.select(event.c.kind, event.c.tenant_id).where(event.c.kind.startswith("network_peering"))
        )
        words = [(row.kind.partition(".")[2], row.tenant_id) for row in told]
        audited = connection.execute(
            sa.select(sa.func.count()).where(
                audit.c.action.startswith("network_peering"), audit.c.outcome == "done"
            )
        ).scalar_one()
    steps = ("requested", "accepted", "deleted")
    assert sorted(words) == sorted((step, tenant.id) for step in steps for tenant in (acme, globex))
    assert audited == 6, "each side has it in its own trail"


def revisions(tenant: Tenant, network_id: str) -> list[int]:
    return [tenant.member.get(f"/v1/networks/{network_id}").json()["revision"]]


def test_a_request_may_be_refused_and_made_again(acme: Tenant, globex: Tenant) -> None:
    mine, theirs = with_subnet(acme, "a", "10.0.0.0/24"), with_subnet(globex, "g", "10.1.0.0/24")
    for _ in range(2):
        asked = made(ask(acme, mine, theirs))
        assert globex.member.post(f"{PATH}/{asked['id']}/refuse").status_code == 204
        assert acme.member.get(PATH).json()["items"] == []


def test_what_cannot_be_peered_is_refused_by_field(acme: Tenant, globex: Tenant) -> None:
    mine, other = make_network(acme, "a"), make_network(acme, "b")
    foreign = make_network(globex, "g")
    refused(ask(acme, mine, mine), 422, "invalid_input", "peer_network_id")
    refused(ask(acme, foreign, mine), 404, "not_found")
    refused(ask(acme, mine, "net_" + "1" * 26), 404, "not_found")
    made(ask(acme, mine, other))
    refused(ask(acme, mine, foreign), 409, "conflict", "name")
    assert acme.member.get(PATH, network_id=foreign).status_code == 404


def test_prefixes_that_overlap_are_refused_with_both_named(acme: Tenant, globex: Tenant) -> None:
    mine, twin = with_subnet(acme, "a", "10.0.0.0/16"), with_subnet(acme, "twin", "10.0.7.0/24")
    said = refused(ask(acme, mine, twin), 409, "conflict", "peer_network_id")
    assert "10.0.0.0/16" in said
    assert "10.0.7.0/24" in said
    foreign = with_subnet(globex, "g", "10.0.9.0/24")
    asked = made(ask(acme, mine, foreign))  # a stranger's prefixes are not to be found out by asking
    said = refused(globex.member.post(f"{PATH}/{asked['id']}/accept"), 409, "conflict", "peer_network_id")
    assert "10.0.0.0/16" in said
    assert "10.0.9.0/24" in said


@pytest.mark.parametrize("side", ["asker", "asked", "peer of the peer"])
def test_no_new_prefix_comes_to_mean_two_things(acme: Tenant, globex: Tenant, side: str) -> None:
    mine, theirs = with_subnet(acme, "a", "10.0.0.0/24"), with_subnet(globex, "g", "10.1.0.0/24")
    third = with_subnet(acme, "third", "10.2.0.0/24")
    for one, other in ((mine, theirs), (third, theirs)):
        asked = made(ask(acme, one, other, f"to-{other[-4:]}"))
        made(globex.member.post(f"{PATH}/{asked['id']}/accept"))
    tenant, network_id, prefix = {
        "asker": (acme, mine, "10.1.0.128/25"),
        "asked": (globex, theirs, "10.0.0.0/16"),
        "peer of the peer": (acme, mine, "10.2.0.0/25"),
    }[side]
    answer = tenant.member.post("/v1/subnets", network_id=network_id, name="more", prefix=prefix)
    assert prefix in refused(answer, 409, "conflict", "prefix")
    made(tenant.member.post("/v1/subnets", network_id=network_id, name="more", prefix="10.9.0.0/24"))


def test_routes_and_peers_keep_apart_too(acme: Tenant) -> None:
    mine, other = with_subnet(acme, "a", "10.0.0.0/24"), with_subnet(acme, "b", "10.1.0.0/24")
    subnet_id = acme.member.get("/v1/subnets", network_id=mine).json()["items"][0]["id"]
    port_id = make_port(acme, subnet_id, "vpn")["id"]

    def route(name: str, prefix: str) -> Any:
        body = {"network_id": mine, "name": name, "prefix": prefix, "port_id": port_id}
        return acme.member.post("/v1/network-routes", **body)

    way = made(route("office", "10.1.0.0/25"))
    assert "10.1.0.0/25" in refused(ask(acme, mine, other), 409, "conflict", "peer_network_id")
    assert acme.member.delete(f"/v1/network-routes/{way['id']}").status_code == 204
    asked = made(ask(acme, mine, other))
    made(acme.member.post(f"{PATH}/{asked['id']}/accept"))
    assert "10.1.0.0/24" in refused(route("again", "10.1.0.0/25"), 409, "conflict", "prefix")


def test_a_network_that_goes_takes_its_peerings_along(
    control_plane: ControlPlane, acme: Tenant, globex: Tenant
) -> None:
    mine, theirs, late = make_network(acme, "a"), make_network(globex, "g"), make_network(globex, "late")
    asked = made(ask(acme, mine, theirs))
    made(globex.member.post(f"{PATH}/{asked['id']}/accept"))
    made(ask(acme, mine, late, "second"))
    control_plane.networks.tick()
    assert acme.member.delete(f"/v1/networks/{mine}").status_code == 202
    assert globex.member.get(PATH).json()["items"] == []
    refused(ask(globex, theirs, mine), 404, "not_found")
    control_plane.networks.tick()
    with control_plane.db.transaction(SYSTEM) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(network_peering)).scalar_one() == 0
    assert acme.member.get(f"/v1/networks/{mine}").status_code == 404
