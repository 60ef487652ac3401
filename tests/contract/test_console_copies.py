"""Copies of machines at the console: clones, images of machines, who may use them; and hosts that are emptied by a plan."""

import re
from dataclasses import replace

import pytest

from penstock.actions import image as image_actions
from penstock.console.secure import BASE
from penstock.domain.role import Role
from tests.fixtures.console import People
from tests.support.console import make_person, words
from tests.support.machine_host import Host
from tests.support.machine_objects import make_host, make_ssh_key, make_vm
from tests.support.networks import made, make_network, make_port, make_subnet
from tests.support.tenancy import Tenant, make_caller


@pytest.fixture
def host(people: People) -> Host:
    return Host(people.plane)


def acme(people: People) -> Tenant:
    """Return acme with its member at the browser, for what is made over the API."""
    return replace(people.acme, member=replace(people.acme.member, client=people.member.browser))


def lab_of(people: People) -> str:
    """Make a second project of acme and return its id."""
    admin = replace(people.acme.admin, client=people.admin.browser)
    return str(admin.post("/v1/projects", name="lab", tenant_id=people.acme.id).json()["id"])


def launched(people: People, host: Host) -> str:
    """Launch a machine that runs; return its page."""
    vm_id = make_vm(people.plane, acme(people), "web-1", memory_mib=512)
    host.say()
    return f"/machines/{vm_id}"


def test_how_far_a_copy_is_stands_on_the_machines_page(people: People, host: Host) -> None:
    path = launched(people, host)
    assert "copied" not in words(people.member.get(path).text)
    host.say(copy={"phase": "copying", "done_bytes": 1 << 30, "total_bytes": 4 << 30})
    assert "25 % copied (1.0 GiB of 4.0 GiB)" in words(people.member.get(path).text)


def test_a_machine_is_cloned_from_its_page(people: People, host: Host) -> None:
    member = people.member
    path = launched(people, host)
    make_ssh_key(acme(people), "laptop")
    assert f'href="{BASE}{path}/clone"' in member.get(path).text
    page = words(member.get(f"{path}/clone").text)
    for text in ("Clone web-1", "goes on as it is", "its disk as it is now", "laptop"):
        assert text in page, text
    good = {"name": "web-2", "snapshot_id": "", "vcpus": "2", "memory_mib": "1024", "disk_gib": "20"}
    for change, field in (
        ({"name": "Web 2"}, "name"),
        ({"disk_gib": "1"}, "disk_gib"),
        ({"vcpus": "many"}, "vcpus"),
        ({"vcpus": "99999999"}, "vcpus"),
        ({"memory_mib": "1"}, "memory_mib"),
    ):
        refused = member.send(f"{path}/clone", {**good, **change})
        assert (refused.status_code, f'id="w-{field}"' in refused.text) == (422, True), change
    assert member.send(f"{path}/clone", {**good, "snapshot_id": "snp_" + "0" * 26}).status_code == 404
    made = member.send(f"{path}/clone", {**good, "ssh_keys": "laptop"})
    assert made.status_code == 303, words(made.text)
    other = made.headers["location"].removeprefix(BASE)
    shown = words(member.get(other).text)
    for text in ("web-2", "1.0 GiB", "20 GiB", "waits"):
        assert text in shown, text
    assert words(member.get("/images").text).count("of the machine web-1") == 1


def test_a_clone_is_plugged_in_as_its_machine_or_where_it_is_told(people: People, host: Host) -> None:
    operator = make_caller(
        people.plane, people.member.browser, "net@factory.test", Role.OPERATOR, kind="user"
    )
    host.carry_networks(operator)
    member, inside = people.member, acme(people)
    prod, test = make_network(inside, "prod"), make_network(inside, "test")
    front, lab = (
        make_subnet(inside, prod, "front", "10.0.0.0/24"),
        make_subnet(inside, test, "lab", "10.1.0.0/24"),
    )
    group = made(inside.member.post("/v1/security-groups", network_id=prod, name="web"))
    free = make_port(inside, lab, "spare")
    path = f"/machines/{make_vm(people.plane, inside, 'web-1', subnets=['front'], security_groups=['web'])}"
    for _ in range(4):
        people.plane.networks.tick()
        host.say(stamps=True)
    page = member.get(f"{path}/clone").text
    for text in (
        "front, prod, 10.0.0.0/24",
        "lab, test, 10.1.0.0/24",
        "spare, test, 10.1.0.2",
        "No network at all",
    ):
        assert text in words(page), text
    assert "10.0.0.2" not in page, "its own port is not free"

    for wrong, field in (
        ({"subnets": front, "no_network": "on"}, "no_network"),
        ({"ports": "nowhere"}, "ports"),
    ):
        refused = member.send(f"{path}/clone", {"name": "x", **wrong})
        assert (refused.status_code, f'id="w-{field}"' in refused.text) == (422, True), wrong
    assert inside.member.get("/v1/vms", name="x").json()["items"] == []

    def clone(name: str, **more: object) -> list[tuple[str, str]]:
        answer = member.send(f"{path}/clone", {"name": name, **more})
        assert answer.status_code == 303, words(answer.text)
        vm_id = answer.headers["location"].rpartition("/")[2]
        rows = inside.member.get("/v1/ports", service_id=vm_id).json()["items"]
        return sorted((one["subnet_id"], one["address"]) for one in rows)

    assert clone("same") == [(front, "10.0.0.3")]
    assert clone("other", subnets=lab) == [(lab, "10.1.0.3")], "a group of another network stays behind"
    both = sorted([(front, "10.0.0.4"), (lab, "10.1.0.2")])
    assert clone("both", subnets=front, ports=free["id"]) == both
    assert clone("alone", no_network="on") == []
    held = inside.member.get(f"/v1/security-groups/{group['id']}").json()
    assert len(held["bindings"]) == 3, "of the machine, of the same, and of the one in both networks"


def test_an_image_is_made_of_a_machine_and_shared_with_projects(people: People, host: Host) -> None:
    member, path = people.member, launched(people, host)
    lab = lab_of(people)
    page = words(member.get(f"{path}/image").text)
    assert "Passwords, keys and host names" in page
    assert "lab" in page
    assert member.send(f"{path}/image", {"name": "Gold En"}).status_code == 422
    made = member.send(f"{path}/image", {"name": "golden", "description": "of web-1", "shared_with": lab})
    where = made.headers["location"].removeprefix(BASE)
    assert re.fullmatch(r"/images/img_\w+", where)
    assert member.send(f"{path}/image", {"name": "golden"}).status_code == 409
    shown = words(member.get(where).text)
    for text in ("pending", "Its machine's host copies and sends it", "the machine web-1", "lab"):
        assert text in shown, text
    assert f'href="{BASE}{where}"' in member.get("/images").text

    asked = member.get(f"{where}/sharing").text
    assert re.search(rf'value="{lab}" checked', asked)
    assert member.send(f"{where}/sharing", {"shared": "on"}).headers["location"] == f"{BASE}{where}"
    assert "every project of the tenant" in words(member.get(where).text)
    refused = member.send(f"{where}/sharing", {"shared_with": people.globex.project_id})
    assert refused.status_code == 404
    assert member.send(f"{where}/sharing", {}).status_code == 303
    assert "nobody else" in words(member.get(where).text)


def test_copies_are_not_for_strangers_or_readers(people: People, host: Host) -> None:
    path = launched(people, host)
    image = f"/images/{image_actions.list_page(people.plane.context, people.acme.admin.actor(), name=None, after=None, limit=1)[0]['id']}"
    for page in (f"{path}/clone", f"{path}/image", image, f"{image}/sharing"):
        assert people.stranger.get(page).status_code == 404, page
    assert people.stranger.send(f"{path}/clone", {"name": "x"}).status_code == 404
    assert people.stranger.send(f"{path}/image", {"name": "x"}).status_code == 404
    assert people.stranger.send(f"{image}/sharing", {"shared": "on"}).status_code == 404
    auditor = people.auditor
    for act in ("Clone", "Make an image"):
        assert f">{act}</a>" not in auditor.get(path).text
    assert "Share it" not in auditor.get(image).text
    for page in (f"{path}/clone", f"{path}/image", f"{image}/sharing"):
        assert auditor.get(page).status_code == 403, page
        assert auditor.send(page, {"name": "x"}).status_code == 403, page


def test_a_member_of_one_project_sees_what_is_shared_with_it_without_buttons(
    people: People, host: Host
) -> None:
    assert host.node_id
    vm_id = make_vm(people.plane, acme(people), "web-1")
    assert vm_id
    lab = lab_of(people)
    image_id = re.findall(r"img_\w{26}", people.member.get("/images").text)[0]
    guest = make_person(
        people.plane, people.browser, "guest@acme.test", Role.MEMBER, tenant_id=people.acme.id, project_id=lab
    )
    assert guest.get(f"/images/{image_id}").status_code == 404
    assert people.member.send(f"/images/{image_id}/sharing", {"shared_with": lab}).status_code == 303
    shown = guest.get(f"/images/{image_id}")
    assert shown.status_code == 200
    assert "Share it" not in shown.text
    assert ">Delete</a>" not in shown.text
    assert guest.get(f"/images/{image_id}/sharing").status_code == 403


def test_a_host_is_emptied_after_the_plan_was_shown(people: People, host: Host) -> None:
    path, node = launched(people, host), f"/nodes/{host.node_id}"
    assert people.member.get(f"{node}/drain").status_code in (403, 404)
    asked = words(people.operator.get(f"{node}/drain").text)
    assert "no other host has room for it" in asked
    assert "1 of 1 cannot move" in asked
    make_host(people.plane, "hv2")
    assert "hv2" in words(people.operator.get(f"{node}/drain").text)
    assert f'href="{BASE}{node}/drain"' in people.operator.get(node).text
    assert "cordoned" not in words(people.operator.get(node).text)
    assert people.operator.send(f"{node}/drain").headers["location"] == f"{BASE}{node}"
    assert "cordoned" in words(people.operator.get(node).text)
    assert "moves to hv2" in words(people.member.get(path).text)


def test_a_stopped_machine_is_moved_as_it_is_and_a_full_host_is_said_in_place(
    people: People, host: Host
) -> None:
    path = launched(people, host)
    assert people.member.send(f"{path}/stop").status_code == 303
    host.say("off")
    _, small = make_host(people.plane, "hv2", memory_bytes=1 << 20)
    assert "It is off and stays off" in words(people.operator.get(f"{path}/move").text)
    refused = people.operator.send(f"{path}/move", {"node": small})
    assert (refused.status_code, "cannot hold it" in refused.text) == (409, True)
    assert "Move web-1 to another host?" in words(refused.text)


def test_pages_below_an_entry_mark_it_in_the_menu(people: People) -> None:
    for path, entry in (
        ("/images", "/machines"),
        ("/volumes", "/machines"),
        ("/ssh-keys", "/machines"),
        ("/load-balancers", "/networks"),
        ("/certificates", "/networks"),
        ("/networks", "/networks"),
        ("/services", "/services"),
        ("/", "/"),
    ):
        menu = people.member.get(path).text.partition('class="menu')[2].partition("</nav>")[0]
        marked = re.findall(r'href="([^"]+)" aria-current="page"', menu)
        assert marked == [f"{BASE}{entry}"], path
