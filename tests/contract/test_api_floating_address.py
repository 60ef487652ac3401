"""Pools, floating addresses, the way out, names, routes and what is forbidden, over the API."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.networks import made, make_network, make_pool, make_port, make_subnet
from tests.support.tenancy import Caller, Tenant


def refused(answer: Any, status: int, code: str, field: str | None = None) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["field"]) == (code, field), error
    return str(error["message"])


def take(tenant: Tenant, pool_id: str, name: str) -> Any:
    return tenant.member.post(
        "/v1/floating-addresses", name=name, project_id=tenant.project_id, pool_id=pool_id
    )


def test_a_pool_is_given_out_once_to_all_tenants_together(
    operator: Caller, acme: Tenant, globex: Tenant
) -> None:
    pool_id = make_pool(operator, "public", "198.51.100.0/29")
    again = operator.post("/v1/address-pools", name="more", prefix="198.51.100.0/24", gateway="198.51.100.9")
    refused(again, 409, "conflict", "name")
    bad = operator.post("/v1/address-pools", name="bad", prefix="203.0.113.0/24", gateway="198.51.100.1")
    refused(bad, 422, "invalid_input", "gateway")
    refused(
        acme.admin.post("/v1/address-pools", name="x", prefix="203.0.113.0/24", gateway="203.0.113.1"),
        403,
        "forbidden",
    )
    with ThreadPoolExecutor(8) as pool:
        tenants = [acme, globex] * 4
        answers = list(pool.map(lambda pair: take(pair[1], pool_id, f"a{pair[0]}"), enumerate(tenants)))
    given = sorted(answer.json()["address"] for answer in answers if answer.status_code == 201)
    assert given == [f"198.51.100.{number}" for number in range(2, 7)], "five are free beside the router's"
    assert sum(answer.status_code == 409 for answer in answers) == 3
    assert acme.member.get("/v1/address-pools").json()["items"][0]["taken"] == 5
    refused(operator.delete(f"/v1/address-pools/{pool_id}"), 409, "conflict")
    for tenant in (acme, globex):
        for one in tenant.member.get("/v1/floating-addresses").json()["items"]:
            assert tenant.member.delete(f"/v1/floating-addresses/{one['id']}").status_code == 204
    assert operator.delete(f"/v1/address-pools/{pool_id}").status_code == 204


def test_an_address_leads_to_one_port_at_a_time(operator: Caller, acme: Tenant, globex: Tenant) -> None:
    pool_id, other_pool = (
        make_pool(operator, "public", "198.51.100.0/24"),
        make_pool(operator, "spare", "203.0.113.0/24"),
    )
    network_id = make_network(acme, "prod")
    subnet_id = make_subnet(acme, network_id, "front", "10.0.0.0/24")
    one, two = (make_port(acme, subnet_id, name)["id"] for name in ("one", "two"))
    www, spare = made(take(acme, pool_id, "www")), made(take(acme, other_pool, "spare"))
    refused(take(acme, pool_id, "www"), 409, "conflict", "name")
    path = f"/v1/floating-addresses/{www['id']}"
    assert made(acme.member.put(f"{path}/port", port_id=one))["network_id"] == network_id
    refused(acme.member.delete(path), 409, "conflict")
    refused(acme.member.delete(f"/v1/ports/{one}"), 409, "conflict")
    more = made(take(acme, pool_id, "more"))
    refused(
        acme.member.put(f"/v1/floating-addresses/{more['id']}/port", port_id=one), 409, "conflict", "port_id"
    )
    refused(
        acme.member.put(f"/v1/floating-addresses/{spare['id']}/port", port_id=two), 409, "conflict", "port_id"
    )
    foreign = make_port(globex, make_subnet(globex, make_network(globex, "x"), "y", "10.0.0.0/24"), "z")["id"]
    assert acme.member.put(f"{path}/port", port_id=foreign).status_code == 404
    assert made(acme.member.put(f"{path}/port", port_id=two))["port_id"] == two
    assert acme.member.delete(f"/v1/ports/{one}").status_code == 204
    shown = made(acme.member.put(f"{path}/port", port_id=None))
    assert (shown["port_id"], shown["network_id"]) == (None, None)
    assert acme.member.delete(path).status_code == 204


def test_a_network_goes_out_by_one_address_that_is_its_own(operator: Caller, acme: Tenant) -> None:
    pool_id, other_pool = (
        make_pool(operator, "public", "198.51.100.0/24"),
        make_pool(operator, "spare", "203.0.113.0/24"),
    )
    network_id = make_network(acme, "prod")
    path = f"/v1/networks/{network_id}/way-out"
    first = made(acme.member.put(path, pool_id=pool_id))
    assert first["egress_address"] == "198.51.100.2"
    assert made(acme.member.put(path, pool_id=pool_id))["egress_address"] == "198.51.100.2", (
        "said twice, it stays"
    )
    (held,) = acme.member.get("/v1/floating-addresses").json()["items"]
    assert (held["egress"], held["address"]) == (True, "198.51.100.2")
    refused(acme.member.delete(f"/v1/floating-addresses/{held['id']}"), 409, "conflict")
    port_id = make_port(acme, make_subnet(acme, network_id, "front", "10.0.0.0/24"), "one")["id"]
    www = made(take(acme, pool_id, "www"))
    made(acme.member.put(f"/v1/floating-addresses/{www['id']}/port", port_id=port_id))
    refused(acme.member.put(path, pool_id=other_pool), 409, "conflict", "pool_id")
    assert acme.member.put(path, pool_id="apl_" + "0" * 26).status_code == 404
    assert made(acme.member.put(path, pool_id=None))["egress_address"] is None
    made(acme.member.put(path, pool_id=pool_id))
    made(acme.member.put(f"/v1/floating-addresses/{www['id']}/port", port_id=None))
    assert acme.member.delete(f"/v1/ports/{port_id}").status_code == 204
    assert acme.member.delete(f"/v1/networks/{network_id}").status_code == 202, "its way out goes with it"
    assert operator.get("/v1/address-pools").json()["items"][0]["taken"] == 1


def test_names_and_routes_of_a_network(acme: Tenant) -> None:
    network_id = make_network(acme, "prod")
    port_id = make_port(acme, make_subnet(acme, network_id, "front", "10.0.0.0/24"), "vpn")["id"]

    def name(name: str, kind: str, value: str) -> Any:
        return acme.member.post("/v1/dns-records", network_id=network_id, name=name, type=kind, value=value)

    first = made(name("www", "A", "10.0.0.9"))
    made(name("www", "A", "10.0.0.10"))
    refused(name("www", "A", "10.0.0.9"), 409, "conflict", "value")
    refused(name("www", "CNAME", "a.b"), 409, "conflict", "name")
    refused(name("vpn", "CNAME", "a.b"), 409, "conflict", "name")
    refused(name("x", "TXT", 'a"b'), 422, "invalid_input", "value")
    refused(name("x", "MX", "a.b"), 422, "invalid_input", "type")
    assert acme.member.delete(f"/v1/dns-records/{first['id']}").status_code == 204

    def route(name: str, prefix: str) -> Any:
        return acme.member.post(
            "/v1/network-routes", network_id=network_id, name=name, prefix=prefix, port_id=port_id
        )

    office = made(route("office", "192.168.0.0/16"))
    refused(route("again", "192.168.0.0/16"), 409, "conflict", "name")
    refused(route("own", "10.0.0.0/25"), 409, "conflict", "prefix")
    refused(route("all", "0.0.0.0/0"), 422, "invalid_input", "prefix")
    refused(route("x", "192.168.0.1/16"), 422, "invalid_input", "prefix")
    refused(acme.member.delete(f"/v1/ports/{port_id}"), 409, "conflict")
    assert acme.member.delete(f"/v1/network-routes/{office['id']}").status_code == 204
    assert acme.member.delete(f"/v1/ports/{port_id}").status_code == 204


def test_the_operator_says_what_no_guest_reaches(operator: Caller, acme: Tenant) -> None:
    refused(acme.admin.put("/v1/network-forbidden", prefixes=["10.0.0.0/8"]), 403, "forbidden")
    refused(operator.put("/v1/network-forbidden", prefixes=["10.0.0.1/8"]), 422, "invalid_input", "prefixes")
    network_id = make_network(acme, "prod")
    before = acme.member.get(f"/v1/networks/{network_id}").json()["revision"]
    answer = operator.put("/v1/network-forbidden", prefixes=["10.77.0.0/16", "10.77.0.0/16", "192.168.7.1"])
    assert answer.json() == {"prefixes": ["10.77.0.0/16", "192.168.7.1/32"]}
    assert operator.get("/v1/network-forbidden").json() == answer.json()
    assert acme.member.get(f"/v1/networks/{network_id}").json()["revision"] == before + 1, (
        "every network hears it"
    )


@pytest.mark.parametrize("noun", ["floating-addresses", "dns-records", "network-routes"])
def test_an_auditor_reads_and_does_not_write(acme: Tenant, noun: str) -> None:
    assert acme.auditor.get(f"/v1/{noun}").status_code == 200
    assert acme.auditor.get("/v1/address-pools").status_code == 200
