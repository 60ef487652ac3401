"""Parts of networks at the console: subnets, ports, groups, names, routes, addresses, public names, flows; made, changed, ended."""

import re
from dataclasses import replace
from typing import Any

import pytest

from penstock.console.secure import BASE
from penstock.domain.role import Role
from tests.fixtures.console import People
from tests.support.console import words
from tests.support.infrastructure import change
from tests.support.networks import make_balancer, make_network, make_pool, make_port, make_subnet
from tests.support.tenancy import Caller, Tenant, make_caller


def acme(people: People) -> Tenant:
    """Return acme with its member at the browser, for what is made over the API."""
    return replace(people.acme, member=replace(people.acme.member, client=people.member.browser))


def operator(people: People) -> Caller:
    """Return an operator with a key."""
    return make_caller(people.plane, people.operator.browser, "robot", Role.OPERATOR)


@pytest.fixture
def network(people: People) -> str:
    """Make a network with a subnet; return its page."""
    network_id = make_network(acme(people), "inside")
    make_subnet(acme(people), network_id, "first", "10.1.0.0/24")
    return f"/networks/{network_id}"


def options(page: str, field: str) -> dict[str, str]:
    """Return what may be chosen in a field, by its words."""
    found = re.search(rf'name="{field}".*?</select>', page, re.DOTALL)
    assert found is not None, field
    return {text: value for value, text in re.findall(r'<option value="([^"]*)"[^>]*>([^<]*)<', found[0])}


def refuse(people: People, path: str, good: dict[str, Any], wrong: dict[str, tuple[Any, str]]) -> None:
    """Check that each wrong value is refused with 422 beside its field (after which it is named), on the same page."""
    for name, (value, field) in wrong.items():
        answer = people.member.send(path, {**good, name: value})
        assert answer.status_code == 422, (name, value, words(answer.text))
        assert f'id="w-{field}"' in answer.text, (name, value)


def where(people: People, path: str, body: dict[str, Any]) -> str:
    """Send a form that is taken; return the page that it leads to."""
    answer = people.member.send(path, body)
    assert answer.status_code == 303, words(answer.text)
    return str(answer.headers["location"]).removeprefix(BASE)


def test_a_subnet_is_added_changed_in_lines_and_deleted(people: People, network: str) -> None:
    good = {
        "name": "second",
        "prefix": "10.2.0.0/24",
        "acl": "deny in tcp 22-23 10.0.0.0/8\nallow out any",
        "dhcp_options": "dns-server=10.2.0.9, 10.2.0.8\nlease-seconds=600",
    }
    assert "Add a subnet to inside" in words(people.member.get(f"{network}/subnets/new").text)
    refuse(
        people,
        f"{network}/subnets",
        good,
        {
            "name": ("Se Cond", "name"),
            "prefix": ("10.2.0.1/24", "prefix"),
            "acl": ("deny in", "acl"),
            "dhcp_options": ("colour=red", "dhcp_options"),
        },
    )
    for lines in (
        "drop in tcp",
        "deny up tcp",
        "deny in gre",
        "deny in icmp 22",
        "deny in tcp 9-1",
        "deny in tcp 1 x y",
    ):
        refuse(people, f"{network}/subnets", good, {"acl": (lines, "acl")})
    assert people.member.send(f"{network}/subnets", {**good, "prefix": "10.1.0.0/16"}).status_code == 409
    assert where(people, f"{network}/subnets", good) == network
    page = people.member.get(network).text
    assert "10.2.0.0/24" in page
    made = set(re.findall(r"/subnets/sub_\w{26}", page))
    (path,) = (one for one in made if "10.2.0.0/24" in people.member.get(one).text)
    shown = people.member.get(path).text
    assert "deny in tcp 22-23 10.0.0.0/8\nallow out any</textarea>" in shown
    assert "dns-server=10.2.0.9, 10.2.0.8\nlease-seconds=600</textarea>" in shown
    refuse(
        people, path, {"acl": "", "dhcp_options": ""}, {"dhcp_options": ("lease-seconds=1", "dhcp_options")}
    )
    assert where(people, path, {"acl": "allow in udp 53", "dhcp_options": ""}) == network
    assert "allow in udp 53</textarea>" in people.member.get(path).text
    assert "It is refused while" in words(people.member.get(f"{path}/delete").text)
    assert where(people, f"{path}/delete", {}) == network
    assert people.member.get(path).status_code == 404


def test_a_port_is_added_held_by_groups_bounded_and_deleted(people: People, network: str) -> None:
    member = people.member
    group = where(people, f"{network}/security-groups", {"name": "web", "allow_egress": "on"})
    subnets = options(member.get(f"{network}/ports/new").text, "subnet_id")
    good = {
        "name": "db-1",
        "subnet_id": subnets["first 10.1.0.0/24"],
        "address": "10.1.0.9",
        "security_group_ids": group.rpartition("/")[2],
        "egress_kbit_per_second": "",
    }
    refuse(
        people,
        f"{network}/ports",
        good,
        {
            "name": ("Db", "name"),
            "address": ("10.9.0.1", "address"),
            "egress_kbit_per_second": ("7", "egress_kbit_per_second"),
        },
    )
    path = where(people, f"{network}/ports", good)
    shown = words(member.get(path).text)
    for text in ("10.1.0.9", "db-1.inside.internal", "nothing yet", "web", "this port", "has not counted"):
        assert text in shown, text
    assert member.send(f"{network}/ports", {**good, "name": "db-2"}).status_code == 409, (
        "the address is taken"
    )
    assert where(people, f"{path}/limit", {"egress_kbit_per_second": "1000"}) == path
    assert "1,000 kbit/s" in words(member.get(path).text)
    refuse(people, f"{path}/limit", {}, {"egress_kbit_per_second": ("much", "egress_kbit_per_second")})
    assert where(people, f"{path}/limit", {"egress_kbit_per_second": ""}) == path
    assert where(people, f"{path}/delete", {}) == network


def test_a_ports_owner_is_named_and_linked(people: People, network: str) -> None:
    subnet_id = re.findall(r"sub_\w{26}", people.member.get(network).text)[0]
    balancer = make_balancer(acme(people), subnet_id, "www")
    make_port(acme(people), subnet_id, "lonely")
    page = people.member.get(network).text
    assert f'<a href="{BASE}/load-balancers/{balancer["id"]}">the load balancer www</a>' in page
    assert words(page).count("nothing yet") == 1
    port = people.member.get(f"/ports/{balancer['port_id']}").text
    assert "the load balancer www" in words(port)
    assert ">Delete</a>" not in port, "it goes with its owner"


def test_rules_let_through_and_are_taken_away_and_groups_hold_for_things(
    people: People, network: str
) -> None:
    member = people.member
    group = where(people, f"{network}/security-groups", {"name": "web"})
    assert "Nothing is let through" in words(member.get(group).text)
    good = {"direction": "in", "protocol": "tcp", "ports": "8000-8080", "prefix": "203.0.113.0/24"}
    refuse(
        people,
        f"{group}/rules",
        good,
        {
            "direction": ("up", "direction"),
            "protocol": ("gre", "protocol"),
            "ports": ("0", "ports"),
            "prefix": ("10.0.0.1/8", "prefix"),
        },
    )
    refuse(people, f"{group}/rules", good, {"ports": ("90-80", "ports")})
    refuse(people, f"{group}/rules", good, {"protocol": ("icmp", "ports")})
    assert where(people, f"{group}/rules", good) == group
    itself = group.rpartition("/")[2]
    both = member.send(f"{group}/rules", {**good, "remote_group_id": itself})
    assert both.status_code == 422
    assert (
        where(people, f"{group}/rules", {**good, "prefix": "", "remote_group_id": itself, "ports": "22"})
        == group
    )
    shown = words(member.get(group).text)
    for text in ("in tcp 8000-8080 from 203.0.113.0/24", "in tcp 22 from the group web"):
        assert text in shown, text
    assert "in tcp 8000-8080 from" in words(member.get(network).text)
    rule = re.findall(rf"{group}/rules/sgl_\w{{26}}/remove", member.get(group).text)[0]
    assert "connections that stand by it are cut" in words(member.get(rule).text)
    assert where(people, rule, {}) == group
    assert member.get(rule).status_code == 404

    choices = options(member.get(f"{group}/bindings/new").text, "target_id")
    assert set(choices) == {"the whole network", "the subnet first"}
    refuse(people, f"{group}/bindings", {}, {"target_id": ("node nod_1", "target_id")})
    assert where(people, f"{group}/bindings", {"target_id": choices["the subnet first"]}) == group
    assert "subnet first" in words(member.get(group).text)
    refused = member.send(f"{group}/delete")
    assert (refused.status_code, "take it off them first" in refused.text) == (409, True)
    bound = re.search(r'name="target_id" value="(sub_\w+)"', member.get(group).text)
    assert bound is not None
    assert where(people, f"{group}/bindings/remove", {"target_id": bound[1]}) == group
    assert where(people, f"{group}/delete", {}) == network


def test_names_and_routes_are_written_and_removed(people: People, network: str) -> None:
    member = people.member
    subnet_id = re.findall(r"sub_\w{26}", member.get(network).text)[0]
    port_id = make_port(acme(people), subnet_id, "vpn")["id"]
    good = {"name": "www", "type": "A", "value": "10.1.0.9"}
    refuse(
        people,
        f"{network}/names",
        good,
        {"name": ("w w", "name"), "type": ("MX", "type"), "value": ("10.1.0", "value")},
    )
    assert where(people, f"{network}/names", good) == network
    assert member.send(f"{network}/names", good).status_code == 409
    route = {"name": "office", "prefix": "192.168.0.0/16", "port_id": port_id}
    refuse(
        people, f"{network}/routes", route, {"name": ("Off Ice", "name"), "prefix": ("192.168/16", "prefix")}
    )
    assert member.send(f"{network}/routes", {**route, "prefix": "10.1.0.0/16"}).status_code == 409
    assert where(people, f"{network}/routes", route) == network
    page = member.get(network).text
    for text in ("A 10.1.0.9", "192.168.0.0/16"):
        assert text in words(page), text
    for path in re.findall(r'href="/console(/(?:names|network-routes)/\w+/delete)"', page):
        assert member.get(path).status_code == 200
        assert where(people, path, {}) == network
    assert "192.168.0.0/16" not in member.get(network).text


def test_a_network_changes_and_goes_out(people: People, network: str) -> None:
    make_pool(operator(people), "world", "203.0.113.0/29")
    good = {"description": "shop", "dns_forwarders": "9.9.9.9, 1.1.1.1", "flow_log": "all"}
    refuse(
        people,
        f"{network}/edit",
        good,
        {"dns_forwarders": ("nine", "dns_forwarders"), "flow_log": ("some", "flow_log")},
    )
    assert where(people, f"{network}/edit", good) == network
    shown = words(people.member.get(network).text)
    for text in ("shop", "asked of 9.9.9.9, 1.1.1.1", "kept (all)"):
        assert text in shown, text
    pools = options(people.member.get(f"{network}/way-out").text, "pool_id")
    assert where(people, f"{network}/way-out", {"pool_id": pools["world 203.0.113.0/29"]}) == network
    assert "203.0.113.2" in words(people.member.get(network).text)
    assert "the way out of its network" in words(people.member.get("/floating-addresses").text)
    assert people.member.send(f"{network}/way-out", {"pool_id": "apl_" + "0" * 26}).status_code == 404
    assert where(people, f"{network}/way-out", {"pool_id": ""}) == network
    assert "nobody: it has no way out" in words(people.member.get(network).text)


def test_a_floating_address_is_taken_pointed_and_given_back(people: People, network: str) -> None:
    member = people.member
    assert "has no pool of them yet" in words(member.get("/floating-addresses").text)
    make_pool(operator(people), "world", "203.0.113.0/29")
    subnet_id = re.findall(r"sub_\w{26}", member.get(network).text)[0]
    port_id = make_port(acme(people), subnet_id, "web")["id"]
    page = member.get("/floating-addresses/new").text
    good = {
        "name": "shop",
        "project_id": people.acme.project_id,
        "pool_id": options(page, "pool_id")["world 203.0.113.0/29"],
    }
    refuse(people, "/floating-addresses", good, {"name": ("Shop", "name")})
    assert where(people, "/floating-addresses", good) == "/floating-addresses"
    path = re.findall(r"/floating-addresses/fla_\w{26}", member.get("/floating-addresses").text)[0]
    assert "web 10.1.0.2 in inside" in options(member.get(f"{path}/port").text, "port_id")
    assert where(people, f"{path}/port", {"port_id": port_id}) == "/floating-addresses"
    assert "203.0.113.2" in words(member.get(f"/ports/{port_id}").text)
    assert member.send(f"{path}/delete").status_code == 409
    assert where(people, f"{path}/port", {"port_id": ""}) == "/floating-addresses"
    assert where(people, f"{path}/delete", {}) == "/floating-addresses"
    assert "No floating addresses yet" in words(member.get("/floating-addresses").text)


def test_public_names_stand_in_the_zone_that_the_operator_serves(people: People) -> None:
    member, operator = people.member, people.operator
    assert "Your operator may name one" in words(member.get("/public-names").text)
    good = {
        "name": "www",
        "type": "A",
        "value": "203.0.113.9",
        "ttl_seconds": "60",
        "project_id": people.acme.project_id,
    }
    none = member.send("/public-names", good)
    assert (none.status_code, "serves no public zone" in none.text) == (409, True)
    assert member.get("/public-names/zone").status_code == 403
    assert member.send("/public-names/zone", {"suffix": "evil.example"}).status_code == 403
    wrong = operator.send("/public-names/zone", {"suffix": "cloud", "name_servers": "ns1.example.net"})
    assert (wrong.status_code, 'id="w-suffix"' in wrong.text) == (422, True)
    assert operator.send("/public-names/zone", {"suffix": "cloud.example.net"}).status_code == 422
    served = {"suffix": "cloud.example.net", "name_servers": "ns1.example.net\nns2.example.net"}
    assert operator.send("/public-names/zone", served).status_code == 303
    assert "ns1.example.net" in operator.get("/public-names").text

    assert "acme.cloud.example.net" in words(member.get("/public-names").text)
    refuse(
        people,
        "/public-names",
        good,
        {
            "name": ("w w", "name"),
            "type": ("MX", "type"),
            "value": ("127.0.0.1", "value"),
            "ttl_seconds": ("1", "ttl_seconds"),
        },
    )
    assert where(people, "/public-names", good) == "/public-names"
    page = member.get("/public-names").text
    assert "www.acme.cloud.example.net" in words(page)
    path = re.findall(r"/public-names/pdr_\w{26}/delete", page)[0]
    assert "within 60 seconds" in words(member.get(path).text)
    assert "/delete" not in people.auditor.get("/public-names").text
    assert people.auditor.get("/public-names/new").status_code == 403
    assert people.auditor.send(path).status_code == 403
    assert people.stranger.send(path).status_code == 404
    assert where(people, path, {}) == "/public-names"
    assert "No public names yet" in words(member.get("/public-names").text)


def test_flows_are_narrowed_and_their_rules_named(people: People, network: str) -> None:
    group = where(people, f"{network}/security-groups", {"name": "web", "allow_egress": "on"})
    add = (
        "INSERT INTO flow (tenant_id, project_id, network_id, at, verdict, rule, protocol, source, target, target_port) "
        "SELECT n.tenant_id, n.project_id, n.id, n.created_at, '{}', {}, 'tcp', '10.1.0.9', '10.1.0.2', {} "
        "FROM network n, security_rule r"
    )
    change(people.plane.context, add.format("drop", "'default-in'", 22))
    change(people.plane.context, add.format("accept", "r.id", 443))
    everything = words(people.member.get("/flows").text)
    assert "10.1.0.2:22" in everything
    assert "10.1.0.2:443" in everything
    network_id = network.rpartition("/")[2]
    narrowed = people.member.get(f"/flows?network_id={network_id}&verdict=accept").text
    assert "10.1.0.2:22" not in narrowed
    assert f'<a href="{BASE}{group}">web</a>' in narrowed
    assert people.stranger.get(f"/flows?network_id={network_id}").status_code == 404
    assert "10.1.0.2" not in people.stranger.get("/flows").text
    assert people.member.get("/flows?verdict=%27&before=x&port_id=").status_code == 200


def test_readers_find_no_buttons_and_change_nothing(people: People, network: str) -> None:
    subnet_id = re.findall(r"sub_\w{26}", people.member.get(network).text)[0]
    port_id = make_port(acme(people), subnet_id, "web")["id"]
    group = where(people, f"{network}/security-groups", {"name": "web", "allow_egress": "on"})
    pages = (network, f"/ports/{port_id}", group, "/floating-addresses", "/public-names", "/flows")
    for page in pages:
        shown = people.auditor.get(page)
        assert shown.status_code == 200, page
        content = shown.text[shown.text.index('id="content"') :]
        assert not re.findall(r'href="[^"]*/(?:new|edit|delete|limit|way-out|remove|port)"', content), page
        assert "<form" not in content.partition('id="palette"')[0].replace('<form method="get"', ""), page
    for path in (
        f"{network}/subnets",
        f"{network}/ports",
        f"{network}/security-groups",
        f"{network}/names",
        f"{network}/routes",
        f"{network}/edit",
        f"{network}/way-out",
        f"/subnets/{subnet_id}",
        f"/subnets/{subnet_id}/delete",
        f"/ports/{port_id}/limit",
        f"/ports/{port_id}/delete",
        f"{group}/rules",
        f"{group}/bindings",
        f"{group}/bindings/remove",
        f"{group}/delete",
    ):
        body = {"name": "x", "target_id": subnet_id}
        assert people.auditor.send(path, body).status_code == 403, path
        assert people.stranger.send(path, body).status_code == 404, path
