"""Networks, subnets, ports and security groups over the API: what is given, what is refused and how."""

from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.control_plane import ControlPlane
from penstock.domain.network import VNI_MIN, bridge_name
from penstock.domain.port import tap_name
from penstock.store import network as network_store
from penstock.store import port as port_store
from penstock.store.database import SYSTEM
from penstock.store.schema import event, network, node
from tests.support.commerce import make_market
from tests.support.networks import made, make_network, make_port, make_subnet
from tests.support.tenancy import Caller, Tenant


def refused(answer: Any, status: int, code: str, field: str | None = None) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["field"]) == (code, field), error
    return str(error["message"])


def test_a_network_with_all_its_parts_comes_and_goes(control_plane: ControlPlane, acme: Tenant) -> None:
    network_id = make_network(acme, "prod", dns_forwarders=["9.9.9.9"])
    shown = acme.member.get(f"/v1/networks/{network_id}").json()
    assert (shown["dns_zone"], shown["mtu"], shown["dns_forwarders"]) == ("prod.internal", 1450, ["9.9.9.9"])
    assert shown["vni"] >= VNI_MIN
    subnet_id = make_subnet(
        acme, network_id, "front", "10.0.0.0/24", dhcp_options={"ntp-server": ["10.0.0.9"]}
    )
    assert acme.member.get(f"/v1/subnets/{subnet_id}").json()["gateway"] == "10.0.0.1"
    group = made(acme.member.post("/v1/security-groups", network_id=network_id, name="web"))
    assert [(rule["direction"], rule["protocol"]) for rule in group["rules"]] == [("out", "any")]
    one = make_port(acme, subnet_id, "web-1", security_group_ids=[group["id"]])
    two = make_port(acme, subnet_id, "web-2")
    assert (one["address"], two["address"]) == ("10.0.0.2", "10.0.0.3")
    assert one["mac"] != two["mac"]
    assert int(one["mac"][:2], 16) & 3 == 2, "local and unicast"
    assert refused(acme.member.delete(f"/v1/networks/{network_id}"), 409, "conflict").count("2 ports") == 1
    refused(acme.member.delete(f"/v1/subnets/{subnet_id}"), 409, "conflict")
    refused(acme.member.delete(f"/v1/security-groups/{group['id']}"), 409, "conflict")
    assert acme.member.delete(f"/v1/ports/{one['id']}").status_code == 204
    again = make_port(acme, subnet_id, "web-1", address="10.0.0.2")
    assert again["address"] == "10.0.0.2", "what was given back may be had again"
    for port in (two, again):
        assert acme.member.delete(f"/v1/ports/{port['id']}").status_code == 204
    assert acme.member.delete(f"/v1/networks/{network_id}").json()["wanted"] == "deleted"
    assert acme.member.get(f"/v1/subnets/{subnet_id}").status_code == 404
    refused(acme.member.post("/v1/security-groups", network_id=network_id, name="late"), 409, "conflict")
    with control_plane.db.transaction(SYSTEM) as connection:
        kinds = list(connection.execute(sa.select(event.c.kind).order_by(event.c.id)).scalars())
    assert [kind for kind in kinds if kind.startswith(("network", "subnet"))] == [
        "network.created",
        "subnet.created",
        "network.delete_asked",
    ]
    assert kinds.count("port.deleted") == 3


@pytest.mark.parametrize(
    ("prefix", "word"),
    [
        ("10.0.0.0", "length"),
        ("10.0.0.5/24", "10.0.0.0/24"),
        ("10.0.0.0/30", "/29"),
        ("0.0.0.0/0", "/8"),
        ("127.0.0.0/24", "127.0.0.0/8"),
        ("169.254.0.0/24", "169.254.0.0/16"),
        ("224.0.0.0/24", "224.0.0.0/4"),
        ("fd00::/64", "IPv6"),
        ("nonsense", "no IPv4 prefix"),
    ],
)
def test_prefixes_that_guests_cannot_use_are_refused(acme: Tenant, prefix: str, word: str) -> None:
    answer = acme.member.post("/v1/subnets", network_id=make_network(acme, "n"), name="s", prefix=prefix)
    assert word in refused(answer, 422, "invalid_input", "prefix")


def test_prefixes_overlap_between_networks_and_never_within_one(acme: Tenant, globex: Tenant) -> None:
    mine = make_network(acme, "prod")
    make_subnet(acme, mine, "front", "7.0.0.0/8")
    for number, prefix in enumerate(("7.0.0.0/8", "7.1.0.0/16", "7.255.255.0/24")):
        answer = acme.member.post("/v1/subnets", network_id=mine, name=f"s{number}", prefix=prefix)
        assert "'front'" in refused(answer, 409, "conflict", "prefix")
    answer = acme.member.post("/v1/subnets", network_id=mine, name="front", prefix="10.0.0.0/24")
    refused(answer, 409, "conflict", "name")
    make_subnet(acme, mine, "back", "8.0.0.0/24")
    make_subnet(acme, make_network(acme, "test"), "front", "7.0.0.0/8")
    make_subnet(globex, make_network(globex, "prod"), "front", "7.0.0.0/8")


def test_addresses_that_a_port_cannot_have_are_refused(acme: Tenant) -> None:
    subnet_id = make_subnet(acme, make_network(acme, "prod"), "tiny", "10.0.0.0/29")

    def ask(address: str | None, name: str) -> Any:
        return acme.member.post("/v1/ports", subnet_id=subnet_id, name=name, address=address)

    for bad in ("10.0.0.0", "10.0.0.1", "10.0.0.7", "10.0.1.2", "1.2.3", "fd00::1"):
        refused(ask(bad, "x"), 422, "invalid_input", "address")
    assert ask("10.0.0.4", "a").json()["address"] == "10.0.0.4"
    refused(ask("10.0.0.4", "b"), 409, "conflict", "address")
    refused(ask(None, "a"), 409, "conflict", "name")
    given = [ask(None, f"p{number}").json()["address"] for number in range(4)]
    assert given == ["10.0.0.2", "10.0.0.3", "10.0.0.5", "10.0.0.6"]
    assert "taken" in refused(ask(None, "full"), 409, "conflict", "subnet_id")


def test_64_orders_at_once_get_64_addresses(control_plane: ControlPlane, acme: Tenant) -> None:
    network_id = make_network(acme, "prod")
    subnet_id = make_subnet(acme, network_id, "front", "10.0.0.0/25")
    with ThreadPoolExecutor(64) as pool:
        answers = list(
            pool.map(
                lambda number: acme.member.post("/v1/ports", subnet_id=subnet_id, name=f"p{number}"),
                range(64),
            )
        )
    assert {answer.status_code for answer in answers} == {201}, [
        a.text for a in answers if a.status_code != 201
    ][:1]
    addresses = [IPv4Address(answer.json()["address"]) for answer in answers]
    first = IPv4Network("10.0.0.0/25").network_address + 2
    assert sorted(addresses) == [first + number for number in range(64)]
    with control_plane.db.transaction(SYSTEM) as connection:
        twice = sa.text(
            'INSERT INTO port SELECT (jsonb_populate_record(p, \'{"id": "x", "name": "x", "mac": "x"}\')).* FROM port p LIMIT 1'
        )
        with pytest.raises(sa.exc.IntegrityError, match="uq_port_vni_address"):
            connection.execute(twice)


def test_prefixes_asked_for_at_once_never_overlap(acme: Tenant) -> None:
    network_id = make_network(acme, "prod")
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(
                lambda n: acme.member.post(
                    "/v1/subnets", network_id=network_id, name=f"s{n}", prefix=f"10.{n % 4}.0.0/16"
                ),
                range(16),
            )
        )
    assert sorted(answer.status_code for answer in answers) == [201] * 4 + [409] * 12


def test_rules_are_checked_and_every_change_is_in_the_trail(acme: Tenant) -> None:
    network_id, other_id = make_network(acme, "prod"), make_network(acme, "test")
    group = made(
        acme.member.post("/v1/security-groups", network_id=network_id, name="web", allow_egress=False)
    )
    other = made(acme.member.post("/v1/security-groups", network_id=other_id, name="web"))
    path = f"/v1/security-groups/{group['id']}"
    for body, field in (
        ({"direction": "in", "protocol": "icmp", "port_min": 1}, "port_min"),
        ({"direction": "in", "protocol": "tcp", "port_min": 9, "port_max": 8}, "port_max"),
        ({"direction": "in", "protocol": "tcp", "prefix": "10.0.0.1/8"}, "prefix"),
        ({"direction": "up", "protocol": "tcp"}, "direction"),
        (
            {"direction": "in", "protocol": "tcp", "prefix": "10.0.0.0/8", "remote_group_id": group["id"]},
            "remote_group_id",
        ),
    ):
        refused(acme.member.post(f"{path}/rules", **body), 422, "invalid_input", field)
    foreign = {"direction": "in", "protocol": "any", "remote_group_id": other["id"]}
    assert acme.member.post(f"{path}/rules", **foreign).status_code == 404
    rule = made(acme.member.post(f"{path}/rules", direction="in", protocol="tcp", port_min=443))
    assert (rule["port_min"], rule["port_max"], rule["prefix"]) == (443, 443, None)
    subnet_id = make_subnet(acme, network_id, "front", "10.0.0.0/24")
    bound = made(acme.member.post(f"{path}/bindings", scope="subnet", target_id=subnet_id))
    assert bound["bindings"] == [{"scope": "subnet", "target_id": subnet_id}]
    refused(
        acme.member.post(f"{path}/bindings", scope="network", target_id=other_id),
        422,
        "invalid_input",
        "target_id",
    )
    assert acme.member.post(f"{path}/bindings", scope="port", target_id=subnet_id).status_code == 404
    assert acme.admin.post(f"{path}/bindings", scope="node", target_id="nod_" + "0" * 26).status_code == 404
    assert acme.member.delete(f"{path}/rules/{rule['id']}").status_code == 204
    assert acme.member.delete(f"{path}/rules/{rule['id']}").status_code == 404
    assert acme.member.delete(f"{path}/bindings/{subnet_id}").json()["bindings"] == []
    trail = acme.admin.get("/v1/audit", limit=100).json()["items"]
    told = {entry["action"]: entry["detail"] for entry in trail if entry["subject_id"] == group["id"]}
    assert told["security_group.remove_rule"]["rule"]["id"] == rule["id"]
    assert told["security_group.remove_rule"]["rule"]["port_min"] == 443
    assert acme.member.delete(path).status_code == 204


def test_acls_and_dhcp_options_are_checked(acme: Tenant) -> None:
    subnet_id = make_subnet(acme, make_network(acme, "prod"), "front", "10.0.0.0/24")
    path = f"/v1/subnets/{subnet_id}"

    def change(**body: Any) -> Any:
        return acme.member.request("PATCH", path, json=body)

    refused(change(dhcp_options={"nonsense": 1}), 422, "invalid_input", "dhcp_options.nonsense")
    refused(change(dhcp_options={"mtu": True}), 422, "invalid_input", "dhcp_options.mtu")
    refused(change(dhcp_options={"ntp-server": ["x"]}), 422, "invalid_input", "dhcp_options.ntp-server")
    refused(change(dhcp_options={"domain-name": "a\nb"}), 422, "invalid_input", "dhcp_options.domain-name")
    entry = {"action": "deny", "direction": "in", "protocol": "icmp", "port_min": 1}
    refused(change(acl=[entry]), 422, "invalid_input", "acl.0.port_min")
    refused(change(), 422, "invalid_input", "acl")
    good = [{"action": "deny", "direction": "in", "prefix": "10.9.0.0/16"}]
    assert made(change(acl=good))["acl"][0]["prefix"] == "10.9.0.0/16"


def test_quotas_and_roles_bound_networks(operator: Caller, acme: Tenant) -> None:
    assert operator.put("/v1/quotas", tenant_id=acme.id, dimension="networks", limit=1).status_code == 200
    network_id = make_network(acme, "prod")
    answer = acme.member.post("/v1/networks", name="more", project_id=acme.project_id)
    assert "networks" in refused(answer, 409, "quota_exceeded")
    assert operator.put("/v1/quotas", tenant_id=acme.id, dimension="ports", limit=1).status_code == 200
    subnet_id = make_subnet(acme, network_id, "front", "10.0.0.0/24")
    port = make_port(acme, subnet_id, "a")
    refused(acme.member.post("/v1/ports", subnet_id=subnet_id, name="b"), 409, "quota_exceeded")
    assert acme.member.delete(f"/v1/ports/{port['id']}").status_code == 204
    port = make_port(acme, subnet_id, "b")
    refused(acme.auditor.post("/v1/ports", subnet_id=subnet_id, name="c"), 403, "forbidden")
    refused(acme.member.put(f"/v1/ports/{port['id']}/node", node_id=None), 403, "forbidden")
    refused(acme.admin.get(f"/v1/networks/{network_id}/hosts"), 403, "forbidden")
    assert operator.get(f"/v1/networks/{network_id}/hosts").json() == {"items": []}


def test_a_port_is_placed_on_nodes_that_carry_networks(
    control_plane: ControlPlane, operator: Caller, acme: Tenant
) -> None:
    make_market(control_plane)
    with control_plane.db.transaction(SYSTEM) as connection:
        node_id = connection.execute(sa.select(node.c.id)).scalars().first()
        connection.execute(sa.update(node).values(drivers=["simulated", "simulated_network"]))
    network_id = make_network(acme, "prod")
    port = make_port(acme, make_subnet(acme, network_id, "front", "10.0.0.0/24"), "web-1")
    path = f"/v1/ports/{port['id']}/node"
    refused(operator.put(path, node_id=node_id), 422, "invalid_input", "node_id")
    host = f"/v1/network-hosts/{node_id}"
    refused(operator.put(host, underlay_address="x.y.z.0"), 422, "invalid_input", "underlay_address")
    refused(
        operator.put(host, underlay_address="10.77.0.11", driver="nftables"), 422, "invalid_input", "driver"
    )
    shown = made(operator.put(host, underlay_address="10.77.0.11"))
    assert (shown["driver"], shown["slot"]) == ("simulated_network", 0)
    assert operator.put(path, node_id=node_id).status_code == 200
    refused(operator.delete(host), 409, "conflict")
    with control_plane.db.transaction(SYSTEM) as connection:
        attached = port_store.attachment(connection, port["id"])
        assert attached is not None
        assert (attached.tap, attached.prefix_length, attached.gateway) == (
            tap_name(port["id"]),
            24,
            "10.0.0.1",
        )
        vni = network_store.get(connection, network_id)
        assert vni is not None
        assert attached.bridge == bridge_name(vni["vni"])
        assert not port_store.ready(connection, port["id"]), "nobody has made it real yet"
        assert connection.execute(sa.select(network.c.due_at)).scalar_one() is not None
    assert operator.put(path, node_id=None).status_code == 200
    with control_plane.db.transaction(SYSTEM) as connection:
        moved = port_store.attachment(connection, port["id"])
        assert moved is not None
        assert (moved.node_id, moved.address, moved.mac) == (None, port["address"], port["mac"])
    assert operator.delete(host).status_code == 204
