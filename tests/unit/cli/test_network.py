"""The commands of networks against a real API."""

import sqlalchemy as sa

from penstock.control_plane import ControlPlane
from penstock.store.database import SYSTEM
from penstock.store.schema import node
from tests.support.command_line import CommandLine
from tests.support.commerce import make_market
from tests.support.networks import make_network, make_port, make_subnet
from tests.support.tenancy import Caller, Tenant


def test_a_network_is_made_used_and_deleted_by_commands(
    control_plane: ControlPlane, served: str, acme: Tenant, operator: Caller
) -> None:
    make_market(control_plane)
    with control_plane.db.transaction(SYSTEM) as connection:
        connection.execute(sa.update(node).values(drivers=["simulated_network"]))
        node_name = connection.execute(sa.select(node.c.name)).scalars().first() or ""
    penstock, operate = CommandLine(served, acme.member.key), CommandLine(served, operator.key)
    made = penstock.json("network", "create", "prod", "--forwarder", "9.9.9.9")
    assert made["dns_zone"] == "prod.internal"
    assert penstock.json("network", "show", "prod")["id"] == made["id"]
    assert "prod" in penstock("network", "list").stdout
    options = '{"ntp-server": ["10.0.0.9"]}'
    front = ("subnet", "create", "front", "-n", "prod", "--prefix", "10.0.0.0/24")
    assert penstock(*front, "--dhcp-options", "{").exit_code == 2
    assert penstock.json(*front, "--dhcp-options", options)["gateway"] == "10.0.0.1"
    again = penstock("subnet", "create", "more", "-n", "prod", "--prefix", "10.0.0.0/16")
    assert (again.exit_code, "overlaps 10.0.0.0/24" in again.stderr) == (3, True)
    acl = '[{"action": "deny", "direction": "in", "prefix": "10.9.0.0/16"}]'
    assert penstock.json("subnet", "set-acl", "front", acl)["acl"][0]["action"] == "deny"
    assert penstock.json("subnet", "list", "-n", "prod")["items"][0]["prefix"] == "10.0.0.0/24"
    assert "10.0.0.0/24" in penstock("subnet", "show", "front").stdout
    penstock.json("security-group", "create", "web", "-n", "prod", "--no-egress")
    penstock.json("security-group", "create", "db", "-n", "prod")
    rule = penstock.json(
        "security-group", "allow", "web", "in", "tcp", "--port", "8000-8010", "--prefix", "0.0.0.0/0"
    )
    assert (rule["port_min"], rule["port_max"]) == (8000, 8010)
    penstock.json("security-group", "allow", "db", "in", "tcp", "--port", "5432", "--from-group", "web")
    assert penstock("security-group", "allow", "web", "in", "tcp", "--port", "x").exit_code == 2
    port = penstock.json("port", "create", "web-1", "-s", "front", "-g", "web", "--egress-kbit", "1000")
    assert port["address"] == "10.0.0.2"
    assert penstock.json("port", "list", "-n", "prod")["items"] == [port]
    assert "10.0.0.2" in penstock("port", "show", "web-1").stdout
    assert penstock.json("port", "counters", "web-1")["received_bytes"] is None
    assert penstock.json("network", "flow-log", "prod", "all")["flow_log"] == "all"
    assert penstock("network", "flow-log", "prod", "some").exit_code == 3
    listed = penstock.json(
        "flow", "list", "-n", "prod", "--port", "web-1", "--verdict", "drop", "--minutes", "5"
    )
    assert listed["items"] == []
    bound = penstock.json("security-group", "bind", "db", "subnet", "front")["bindings"]
    assert bound[0]["scope"] == "subnet"
    assert penstock("security-group", "bind", "db", "planet", "front").exit_code == 2
    assert "5432" in penstock("security-group", "show", "db").stdout
    assert "web" in penstock("security-group", "list", "-n", "prod").stdout
    operate.json("network-host", "set", node_name, "--underlay", "10.77.0.11")
    assert "10.77.0.11" in operate("network-host", "list").stdout
    operate.json("port", "place", "web-1", "--node", node_name)
    operate.json("port", "place", "web-1")
    assert operate.json("network", "hosts", "prod")["items"] == []
    assert operate("network-host", "remove", node_name).exit_code == 0
    penstock.json("security-group", "unbind", "db", bound[0]["target_id"])
    assert penstock("security-group", "revoke", "web", rule["id"]).exit_code == 0
    for gone in (("security-group", "db"), ("port", "web-1"), ("security-group", "web"), ("subnet", "front")):
        assert penstock(gone[0], "delete", gone[1], "--yes").exit_code == 0
    assert penstock.json("network", "delete", "prod", "--yes")["wanted"] == "deleted"


def test_networks_are_peered_by_commands(served: str, acme: Tenant, globex: Tenant) -> None:
    mine, theirs = CommandLine(served, acme.member.key), CommandLine(served, globex.member.key)
    make_subnet(acme, make_network(acme, "prod"), "front", "10.0.0.0/24")
    foreign = make_network(globex, "data")
    for again in (True, False):
        asked = mine.json("network-peering", "request", "link", "-n", "prod", "--peer", foreign)
        assert asked["state"] == "requested"
        assert "10.0.0.0/24" in theirs("network-peering", "list", "-n", "data", "--state", "requested").stdout
        if again:
            assert theirs("network-peering", "refuse", "link").exit_code == 0
    assert mine("network-peering", "accept", "link").exit_code != 0
    assert theirs.json("network-peering", "accept", "link")["state"] == "active"
    assert mine.json("network-peering", "show", "link")["id"] == asked["id"]
    assert mine("network-peering", "delete", "link", "--yes").exit_code == 0
    assert theirs.json("network-peering", "list")["items"] == []


def test_public_names_are_written_by_commands(served: str, acme: Tenant, operator: Caller) -> None:
    penstock, operate = CommandLine(served, acme.member.key), CommandLine(served, operator.key)
    named = operate.json("public-record", "serve-in", "cloud.example.net", "--name-server", "ns1.example.net")
    assert named["suffix"] == "cloud.example.net"
    zone = penstock.json("public-record", "zone")["zone"]
    made = penstock.json("public-record", "create", "www", "a", "198.51.100.3", "--ttl", "60")
    assert made["full_name"] == f"www.{zone}"
    assert "198.51.100.3" in penstock("public-record", "list").stdout
    assert penstock("public-record", "delete", "www").exit_code == 0
    assert operate.json("public-record", "serve-in")["suffix"] is None


def test_outside_addresses_names_and_routes_by_commands(served: str, acme: Tenant, operator: Caller) -> None:
    penstock, operate = CommandLine(served, acme.member.key), CommandLine(served, operator.key)
    network_id = make_network(acme, "prod")
    port = make_port(acme, make_subnet(acme, network_id, "front", "10.0.0.0/24"), "web-1")
    pool = ("address-pool", "create", "public", "--prefix", "198.51.100.0/24", "--router", "198.51.100.1")
    operate.json(*pool)
    assert "198.51.100.1" in penstock("address-pool", "list").stdout
    way = penstock.json("floating-address", "way-out", "prod", "--pool", "public")
    assert way["egress_address"] == "198.51.100.2"
    assert penstock.json("floating-address", "create", "www", "--pool", "public")["address"] == "198.51.100.3"
    assert penstock("floating-address", "create", "x", "--pool", "nowhere").exit_code == 2
    assert penstock.json("floating-address", "point", "www", "--port", "web-1")["port_id"] == port["id"]
    assert penstock.json("floating-address", "point", "www")["port_id"] is None
    assert "198.51.100.3" in penstock("floating-address", "list").stdout
    penstock.json("dns-record", "create", "api", "a", "10.0.0.9", "-n", "prod")
    assert "10.0.0.9" in penstock("dns-record", "list", "-n", "prod").stdout
    assert penstock("dns-record", "delete", "api").exit_code == 0
    penstock.json(
        "network-route", "create", "office", "--prefix", "192.168.0.0/16", "--port", "web-1", "-n", "prod"
    )
    assert "192.168.0.0/16" in penstock("network-route", "list", "-n", "prod").stdout
    assert penstock("network-route", "delete", "office").exit_code == 0
    assert penstock("floating-address", "delete", "www", "--yes").exit_code == 0
    assert penstock.json("floating-address", "way-out", "prod")["egress_address"] is None
    assert operate("address-pool", "delete", "public", "--yes").exit_code == 0
    assert operate.json("network-host", "forbid", "10.77.0.0/16") == operate.json("network-host", "forbid")


def test_what_stands_is_changed_by_commands(control_plane: ControlPlane, served: str, acme: Tenant) -> None:
    make_market(control_plane)
    subnet_id = make_subnet(acme, make_network(acme, "prod"), "front", "10.0.0.0/24")
    make_port(acme, subnet_id, "web-1")
    penstock = CommandLine(served, acme.member.key)
    assert (
        penstock.json("port", "set-limit", "web-1", "--egress-kbit", "900")["egress_kbit_per_second"] == 900
    )
    assert penstock.json("port", "set-limit", "web-1")["egress_kbit_per_second"] is None
    assert penstock("port", "set-limit", "web-1", "--egress-kbit", "1").exit_code == 3
    changed = penstock.json("network", "set", "prod", "-d", "shop", "--forwarder", "9.9.9.9")
    assert (changed["description"], changed["dns_forwarders"]) == ("shop", ["9.9.9.9"])
    assert penstock.json("network", "set", "prod", "--no-forwarders")["dns_forwarders"] == []
    assert "say what to change" in penstock("network", "set", "prod").stderr
    options = penstock.json("subnet", "set-options", "front", '{"lease-seconds": 600}')
    assert options["dhcp_options"] == {"lease-seconds": 600}
    assert penstock("subnet", "set-options", "front", "{").exit_code == 2
