"""What hosts are told: rules written out, groups as addresses, the gateway that stays where it is."""

from typing import Any

from penstock.domain.host_network import NetworkFacts, choose_gateway, configs_of

NETWORK = {
    "id": "net_1",
    "vni": 5000,
    "mtu": 1450,
    "dns_zone": "prod.internal",
    "dns_forwarders": [],
    "flow_log": "drops",
    "egress_address": None,
    "gateway_node_id": None,
}


def host(number: int, **more: Any) -> dict[str, Any]:
    base = {
        "node_id": f"nod_{number}",
        "slot": number,
        "underlay_address": f"10.77.0.{number}",
        "state": "ready",
    }
    return {**base, "external_bridge": "br-ext", **more}


def port(number: int, node: int | None, **more: Any) -> dict[str, Any]:
    base = {
        "id": f"prt_{number:026}",
        "name": f"p{number}",
        "subnet_id": "sub_1",
        "mac": f"0a:00:00:00:00:{number:02x}",
    }
    base |= {
        "address": f"10.0.0.{number}",
        "service_id": None,
        "arriving_node_id": None,
        "egress_kbit_per_second": None,
        "metadata": {},
    }
    return {**base, "node_id": None if node is None else f"nod_{node}", **more}


def rule(name: str, group: str, direction: str = "in", **more: Any) -> dict[str, Any]:
    base = {
        "id": name,
        "group_id": group,
        "direction": direction,
        "protocol": "tcp",
        "port_min": 80,
        "port_max": 80,
    }
    return {**base, "prefix": None, "remote_group_id": None, **more}


def test_a_network_without_plugged_ports_is_nowhere() -> None:
    assert configs_of(NetworkFacts(NETWORK, [host(1)], ports=[port(2, None)]), None) == {}


def test_a_group_is_written_out_wherever_it_is_bound() -> None:
    ports = [port(2, 1, service_id="svc_1"), port(3, 2), port(4, 2)]
    bindings = [
        {"group_id": "web", "target_id": ports[0]["id"], "scope": "port"},
        {"group_id": "web", "target_id": "svc_1", "scope": "service"},
        {"group_id": "db", "target_id": "nod_2", "scope": "node"},
        {"group_id": "all", "target_id": "net_1", "scope": "network"},
    ]
    rules = [
        rule("r1", "db", remote_group_id="web"),
        rule("r2", "web", prefix="0.0.0.0/0"),
        rule("r3", "all", "out", protocol="any", port_min=None, port_max=None),
        rule("r4", "web", remote_group_id="db"),
        rule("r5", "web", remote_group_id="empty"),
    ]
    facts = NetworkFacts(NETWORK, [host(1), host(2)], ports=ports, rules=rules, bindings=bindings)
    told = configs_of(facts, None)
    (first,) = told["nod_1"]["ports"]
    remotes = {one["id"]: one["remotes"] for one in first["in"]}
    assert remotes == {"r2": None, "r4": ["10.0.0.3/32", "10.0.0.4/32"], "r5": []}
    assert [one["id"] for one in first["out"]] == ["r3"]
    assert first["metadata"]["instance-id"] == "svc_1"
    second = told["nod_2"]["ports"][0]
    assert [(one["id"], one["remotes"]) for one in second["in"]] == [("r1", ["10.0.0.2/32"])]
    assert told["nod_1"]["remotes"] == [
        {"slot": 2, "underlay": "10.77.0.2", "addresses": ["10.0.0.3", "10.0.0.4"]}
    ]


def test_a_port_that_moves_is_told_to_both_hosts_and_is_where_it_was_for_the_others() -> None:
    moving = port(2, 1, arriving_node_id="nod_2")
    facts = NetworkFacts(NETWORK, [host(1), host(2), host(3)], ports=[moving, port(3, 3)])
    told = configs_of(facts, None)
    slots = {
        node: [(one.get("leaving"), one.get("arriving")) for one in told[node]["ports"]] for node in told
    }
    assert slots == {"nod_1": [(2, None)], "nod_2": [(None, 1)], "nod_3": [(None, None)]}
    seen = {one["slot"]: one["addresses"] for one in told["nod_3"]["remotes"]}
    assert seen == {1: ["10.0.0.2"], 2: []}
    gone = configs_of(NetworkFacts(NETWORK, [host(1)], ports=[moving]), None)
    assert "leaving" not in gone["nod_1"]["ports"][0], "a host that carries no networks is no place to go to"


def test_a_guest_reads_what_it_is_and_nothing_of_other_machines() -> None:
    ports = [
        port(2, 1, service_id="svc_1", metadata={"local-hostname": "web"}),
        port(3, 1, service_id="svc_1"),
        port(4, 2, service_id="svc_2"),
        port(5, 2),
    ]
    machines = [
        {"id": "svc_1", "name": "Web 1", "tags": {"role": "web", "team/own": "a b", "odd/": "x"}},
        {"id": "svc_2", "name": "db", "tags": None},
    ]
    subnets = [{"id": "sub_1", "prefix": "10.0.0.0/24", "gateway": "10.0.0.1", "dhcp_options": {}, "acl": []}]
    floating = [
        {"address": "198.51.100.8", "port_id": ports[0]["id"]},
        {"address": "198.51.100.9", "port_id": ports[0]["id"]},
    ]
    hosts = [host(1, site="paris"), host(2)]
    facts = NetworkFacts(NETWORK, hosts, subnets=subnets, ports=ports, floating=floating, machines=machines)
    told = configs_of(facts, None)
    first, second = (one["metadata"] for one in told["nod_1"]["ports"])
    assert {key: first[key] for key in ("instance-id", "name", "public-ipv4", "local-hostname")} == {
        "instance-id": "svc_1",
        "name": "Web 1",
        "public-ipv4": "198.51.100.8",
        "local-hostname": "web",
    }
    assert first["placement"] == dict.fromkeys(("site", "region", "availability-zone"), "paris")
    assert first["tags"] == {"instance": {"role": "web", "team/own": "a b"}}
    assert first["network"] == second["network"]
    assert list(first["network"]["interfaces"]["macs"].values()) == [
        {
            "mac": "0a:00:00:00:00:02",
            "interface-id": ports[0]["id"],
            "vpc-id": "net_1",
            "subnet-id": "sub_1",
            "subnet-ipv4-cidr-block": "10.0.0.0/24",
            "local-ipv4s": "10.0.0.2",
            "public-ipv4s": "198.51.100.8\n198.51.100.9",
        },
        {
            "mac": "0a:00:00:00:00:03",
            "interface-id": ports[1]["id"],
            "vpc-id": "net_1",
            "subnet-id": "sub_1",
            "subnet-ipv4-cidr-block": "10.0.0.0/24",
            "local-ipv4s": "10.0.0.3",
        },
    ]
    assert "public-ipv4" not in second
    db, bare = (one["metadata"] for one in told["nod_2"]["ports"])
    assert "web" not in str(db)
    assert (db["name"], db.keys() & {"tags", "placement", "public-ipv4"}) == ("db", set())
    assert (bare["instance-id"], "name" in bare) == (ports[3]["id"], False), "no machine has it"


def test_a_port_in_no_group_reaches_all_and_is_reached_by_none() -> None:
    told = configs_of(NetworkFacts(NETWORK, [host(1)], ports=[port(2, 1)]), None)
    (only,) = told["nod_1"]["ports"]
    assert only["in"] == []
    assert [one["protocol"] for one in only["out"]] == ["any"]


def test_the_gateway_stays_while_it_is_well_and_moves_when_not() -> None:
    network = {**NETWORK, "egress_address": "198.51.100.9", "gateway_node_id": "nod_3"}
    pool = {"prefix": "198.51.100.0/24", "gateway": "198.51.100.1"}
    hosts = [host(1, external_bridge=None), host(2), host(3)]
    facts = NetworkFacts(network, hosts, ports=[port(2, 1), port(3, 2)], pool=pool)
    assert choose_gateway(facts) == "nod_3"
    hosts[2]["state"] = "unreachable"
    assert choose_gateway(facts) == "nod_2", "where the network is already"
    told = configs_of(facts, "nod_2")
    assert (told["nod_1"]["gateway_slot"], told["nod_1"]["external"]) == (2, None)
    assert told["nod_2"]["external"]["address"] == "198.51.100.9"
    hosts[1]["external_bridge"] = None
    assert choose_gateway(facts) is None
    assert choose_gateway(NetworkFacts(NETWORK, hosts, pool=pool)) is None, "no address, no way out"


def test_a_gateway_without_ports_carries_the_network_too() -> None:
    network = {**NETWORK, "egress_address": "198.51.100.9"}
    pool = {"prefix": "198.51.100.0/24", "gateway": "198.51.100.1"}
    hosts = [host(1, external_bridge=None), host(2)]
    facts = NetworkFacts(network, hosts, ports=[port(2, 1)], pool=pool)
    told = configs_of(facts, choose_gateway(facts))
    assert told["nod_2"]["ports"] == []
    assert told["nod_1"]["remotes"][0]["addresses"] == []
