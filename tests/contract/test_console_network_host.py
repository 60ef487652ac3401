"""What carries networks at the console: hosts, pools of addresses and forbidden prefixes, for operators and nobody else."""

import re

from penstock.console.secure import BASE
from tests.fixtures.console import People
from tests.support.console import words
from tests.support.infrastructure import query
from tests.support.machine_objects import make_host


def test_a_node_is_made_to_carry_networks_and_no_longer(people: People) -> None:
    operator = people.operator
    _, node_id = make_host(people.plane, "hv1", drivers=("libvirt", "simulated_network"))
    make_host(people.plane, "hv2")
    assert "no guest can be plugged into them yet" in words(operator.get("/network-hosts").text)
    good = {"node": "hv1", "underlay_address": "10.77.0.11", "external_bridge": "br-ext"}
    for wrong, field in (
        ({"node": "hv9"}, "node"),
        ({"node": "hv2"}, "node"),
        ({"underlay_address": "10.77"}, "underlay_address"),
        ({"external_bridge": "br ext; rm"}, "external_bridge"),
    ):
        refused = operator.send("/network-hosts", {**good, **wrong})
        assert (refused.status_code, f'id="w-{field}"' in refused.text) == (422, True), wrong
    assert operator.send("/network-hosts", good).headers["location"] == f"{BASE}/network-hosts"
    shown = words(operator.get("/network-hosts").text)
    for text in ("hv1", "10.77.0.11", "br-ext", "simulated"):
        assert text in shown, text
    path = f"/network-hosts/{node_id}/remove"
    assert "move its machines away first" in words(operator.get(path).text)
    assert operator.send(path).status_code == 303
    assert "no guest can be plugged into them yet" in words(operator.get("/network-hosts").text)


def test_pools_are_made_and_deleted_and_prefixes_forbidden(people: People) -> None:
    operator = people.operator
    good = {"name": "world", "prefix": "203.0.113.0/28", "gateway": "203.0.113.1"}
    for wrong, field in (
        ({"name": "W"}, "name"),
        ({"prefix": "203.0.113.1/28"}, "prefix"),
        ({"gateway": "198.51.100.1"}, "gateway"),
    ):
        refused = operator.send("/address-pools", {**good, **wrong})
        assert (refused.status_code, f'id="w-{field}"' in refused.text) == (422, True), wrong
    assert operator.send("/address-pools", good).status_code == 303
    assert operator.send("/address-pools", good).status_code == 409
    (path,) = set(re.findall(r"/address-pools/apl_\w{26}/delete", operator.get("/network-hosts").text))
    assert "It is refused while" in words(operator.get(path).text)
    assert operator.send(path).status_code == 303
    assert operator.send("/network-hosts/forbidden", {"prefixes": "10.0.0.1/8"}).status_code == 422
    assert operator.send("/network-hosts/forbidden", {"prefixes": "10.0.0.0/8 " * 99}).status_code == 422
    assert (
        operator.send("/network-hosts/forbidden", {"prefixes": "10.20.0.0/16\n10.9.0.0/16"}).status_code
        == 303
    )
    assert "10.20.0.0/16" in operator.get("/network-hosts").text
    assert "10.9.0.0/16" in operator.get("/network-hosts/forbidden").text


def test_nodes_are_set_into_a_partition_by_name(people: People) -> None:
    made = people.member.send("/fabric", {"name": "ib", "project": people.acme.project_id})
    path = made.headers["location"].removeprefix(BASE)
    assert f"{path}/nodes" not in people.member.get(path).text
    assert people.member.get(f"{path}/nodes").status_code == 403
    assert people.member.send(f"{path}/nodes", {"node_ids": ""}).status_code == 403
    make_host(people.plane, "hv1")
    refused = people.operator.send(f"{path}/nodes", {"node_ids": "hv1\nhv9"})
    assert (refused.status_code, "hv9" in refused.text) == (422, True)
    assert people.operator.send(f"{path}/nodes", {"node_ids": "hv1"}).headers["location"] == f"{BASE}{path}"
    assert "hv1</textarea>" in people.operator.get(f"{path}/nodes").text
    assert people.operator.send(f"{path}/nodes", {"node_ids": ""}).status_code == 303
    assert query(people.plane.context, "SELECT node_ids FROM fabric_partition")[0]["node_ids"] == []


def test_tenants_find_none_of_it(people: People) -> None:
    assert "/network-hosts" not in people.admin.get("/networks").text
    for path in ("/network-hosts", "/network-hosts/new", "/network-hosts/forbidden", "/address-pools/new"):
        assert people.admin.get(path).status_code == 403, path
    for path in ("/network-hosts", "/network-hosts/forbidden", "/address-pools"):
        assert people.admin.send(path, {"name": "x", "node": "x"}).status_code == 403, path
