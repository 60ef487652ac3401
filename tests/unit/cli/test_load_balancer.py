"""The commands of load balancers against a real API."""

from tests.support.command_line import CommandLine
from tests.support.networks import make_certificate, make_network, make_port, make_subnet
from tests.support.tenancy import Tenant


def test_a_load_balancer_is_made_changed_and_deleted_by_commands(served: str, acme: Tenant) -> None:
    penstock = CommandLine(served, acme.member.key)
    subnet_id = make_subnet(acme, make_network(acme, "prod"), "front", "10.0.0.0/24")
    make_port(acme, subnet_id, "web-1")
    make_certificate(acme, "www", "www.prod.internal")
    create = ("load-balancer", "create", "www", "-s", "front")
    made = penstock.json(
        *create,
        "--listen",
        "443/https/www",
        "--listen",
        "80/http",
        "--member",
        "web-1:8080/2",
        "--check",
        "/healthz",
    )
    assert [(one["port"], one["mode"]) for one in made["listeners"]] == [(443, "https"), (80, "http")]
    (member,) = made["members"]
    assert (member["address"], member["port"], member["weight"]) == ("10.0.0.2", 8_080, 2)
    assert (made["health_check"]["path"], made["state"]) == ("/healthz", "waiting")
    for bad in ("x", "x:y", "10.0.0.9:80/x"):
        assert penstock(*create, "--listen", "80", "--member", bad).exit_code == 2, bad
    assert penstock(*create, "--listen", "http").exit_code == 2
    assert penstock(*create).exit_code == 3, "nothing to listen on"
    assert len(penstock.json("load-balancer", "add-member", "www", "10.0.0.9:80")["members"]) == 2
    assert len(penstock.json("load-balancer", "remove-member", "www", "10.0.0.9:80")["members"]) == 1
    assert penstock("load-balancer", "remove-member", "www", "10.0.0.9:80").exit_code == 2
    changed = penstock.json("load-balancer", "set", "www", "--algorithm", "source", "--check", "tcp")
    assert (changed["algorithm"], changed["health_check"]["kind"], changed["health_check"]["path"]) == (
        "source",
        "tcp",
        None,
    )
    assert [one["address"] for one in changed["members"]] == ["10.0.0.2"]
    table = penstock("load-balancer", "show", "www").stdout
    assert "443/https" in table
    assert "0 of 1 up" in penstock("load-balancer", "list").stdout
    assert penstock("load-balancer", "delete", "www", "--yes").exit_code == 0
