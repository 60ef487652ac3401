"""Machines at the console: key, image, launch, power, shape, snapshots, console, move, end; consequences come first."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.actions import offer as offer_actions
from penstock.actions import vm_console as console_actions
from penstock.actions.seed import seed_catalogue
from penstock.console.secure import BASE
from penstock.console.vm_console import printable
from penstock.drivers.base import Phase
from tests.fixtures.console import People
from tests.support.console import forms, words
from tests.support.machine_host import Host
from tests.support.machine_objects import SSH_KEY, make_host, make_vm, qcow2


@pytest.fixture
def host(people: People) -> Host:
    return Host(people.plane)


def launched(people: People) -> str:
    """Launch a machine over the API; return its page."""
    member = replace(people.acme.member, client=people.member.browser)
    vm_id = make_vm(people.plane, replace(people.acme, member=member), "web-1", memory_mib=512)
    return f"/machines/{vm_id}"


def test_a_machine_is_launched_from_the_pages_alone(people: People, host: Host, tmp_path: Path) -> None:
    people.plane.keep_images_in(tmp_path)
    seed_catalogue(people.plane.context)
    member = people.member
    assert "Register an SSH key" in words(member.get("/machines").text)
    project = people.acme.project_id
    key = {"name": "laptop", "project": project, "public_key": SSH_KEY}
    assert member.send("/ssh-keys", {**key, "public_key": "ssh-rsa nonsense"}).status_code == 422
    assert member.send("/ssh-keys", key).status_code == 303
    image = {"name": "small", "project": project, "architecture": "x86_64"}
    assert member.send("/images", {**image, "architecture": "vax"}).status_code == 422
    assert member.send("/images", {**image, "source_url": "https://10.0.0.1/x"}).status_code == 422
    assert member.send("/images", {**image, "sha256": "x"}).status_code == 422
    away = {**image, "name": "away", "source_url": "https://images.example.org/x.qcow2?key=secret"}
    assert member.send("/images", away).status_code == 303
    shown = member.get("/images").text
    assert ("from https://images.example.org/x.qcow2" in words(shown), "secret" in shown) == (True, False)
    assert member.send("/images", image).status_code == 303
    to = re.search(rf'data-to="({BASE}/images/[^"]+)"', member.get("/images").text)
    assert to is not None
    sent = {"X-CSRF-Token": member.csrf}
    refused = member.client.post(to[1], content=b"\x7fELF" + bytes(600), headers=sent)
    assert (refused.status_code, "ELF" in refused.text) == (422, True)
    assert member.client.post(to[1], content=qcow2(), headers={"X-CSRF-Token": "forged"}).status_code == 403
    assert (
        people.stranger.client.post(
            to[1], content=qcow2(), headers={"X-CSRF-Token": people.stranger.csrf}
        ).status_code
        == 404
    )
    assert member.client.post(to[1], content=qcow2(), headers=sent).status_code == 204
    rows = offer_actions.list_page(
        people.plane.context, people.acme.admin.actor(), name="vm", kind=None, state=None, after=None, limit=1
    )
    path = f"/catalogue/{rows[0]['id']}"
    page = member.get(path).text
    assert 'name="ssh_keys" value="laptop"' in page
    assert "Bridges of the host" not in page, "the operator's"
    body = {**forms(page)[f"{BASE}{path}"], "image": "small", "ssh_keys": "laptop", "name": "web-1"}
    body |= {
        "vcpus": "2",
        "memory_mib": "512",
        "disk_gib": "1",
        "tags": "tier=web",
        "user_data": "#cloud-config",
    }
    made = member.send(path, body)
    assert made.status_code == 303, words(made.text)
    machine = host.machine()
    assert (machine.vcpus, machine.memory_mib, machine.seed.user_data) == (2, 512, b"#cloud-config")
    assert len(machine.seed.ssh_keys) == 1
    where = made.headers["location"].removeprefix(BASE)
    assert re.fullmatch(r"/machines/svc_\w+", where)
    shown = words(member.get(where).text)
    for text in ("web-1", "provisioning", "512 MiB", "tier=web", "small"):
        assert text in shown, text
    assert where in member.get("/machines").text
    assert where in member.get("/search?q=web-").text


def test_power_follows_the_switch_and_every_stop_says_first_what_it_does(people: People, host: Host) -> None:
    path, member = launched(people), people.member
    host.say(meters={"cpu_time_us": 5_000_000, "disk_read_bytes": 1 << 20, "disk_written_bytes": 0})
    page = words(member.get(path).text)
    assert "It runs as it is wanted" in page
    assert "1.0 MiB read" in page
    assert "goes on" not in page
    assert "is paid for as before" in words(member.get(f"{path}/stop").text)
    assert member.send(f"{path}/stop").status_code == 303
    assert "stopping" in words(member.get(path).text)
    host.say("off")
    assert f'action="{BASE}{path}/start"' in member.get(path).text
    assert member.send(f"{path}/reboot").status_code == 409
    assert member.send(f"{path}/start").status_code == 303
    host.say()
    assert "cut off meanwhile" in words(member.get(f"{path}/reboot").text)
    assert member.send(f"{path}/reboot").status_code == 303
    assert host.machine().boots == 1
    assert people.auditor.get(f"{path}/stop").status_code == 403
    assert people.auditor.send(f"{path}/stop").status_code == 403
    assert ">Stop</a>" not in people.auditor.get(path).text


def test_what_its_host_cannot_do_is_said(people: People, host: Host) -> None:
    path = launched(people)
    host.say(problems={"volume:vol_1": "no such disk"})
    assert "volume:vol_1: no such disk" in words(people.member.get(path).text)


def test_shape_and_tags_change_and_what_cannot_be_is_said_on_its_page(people: People, host: Host) -> None:
    path, member = launched(people), people.member
    host.say()
    assert member.send(f"{path}/shape", {"memory_mib": "1024", "disk_gib": "20"}).status_code == 303
    assert host.machine().memory_mib == 1_024
    shrunk = member.send(f"{path}/shape", {"disk_gib": "1"})
    assert (shrunk.status_code, "never shrinks" in shrunk.text) == (422, True)
    assert "too little free memory" in member.send(f"{path}/shape", {"memory_mib": str(1 << 20)}).text
    assert member.send(f"{path}/shape", {"vcpus": "many"}).status_code == 422
    assert member.send(f"{path}/tags", {"tags": "role=db\nowner=ada"}).status_code == 303
    assert "role=db" in member.get(path).text
    for wrong in ("role", "=x", "a b=c", f"a={'x' * 300}", "\n".join(f"t{n}=x" for n in range(500))):
        assert member.send(f"{path}/tags", {"tags": wrong}).status_code == 422, wrong[:20]
    assert "role=db" in member.get(path).text


def test_a_disk_goes_back_to_a_snapshot_after_the_loss_was_said(people: People, host: Host) -> None:
    path, member = launched(people), people.member
    host.say()
    assert member.send(f"{path}/snapshots", {"name": "Be Fore"}).status_code == 422
    assert member.send(f"{path}/snapshots", {"name": "before"}).status_code == 303
    assert "pending" in words(member.get(path).text)
    (snapshot_id,) = host.machine().snapshots
    host.say(snapshots={snapshot_id: 4 << 20})
    assert "4.0 MiB" in member.get(path).text
    one = f"{path}/snapshots/{snapshot_id}"
    assert "is lost" in words(member.get(f"{one}/restore").text)
    assert member.send(f"{one}/restore").status_code == 303
    assert host.machine().restores == 1
    host.say(snapshots={snapshot_id: 4 << 20})
    assert member.send(f"{one}/delete").status_code == 303
    assert member.get(f"{one}/restore").status_code == 404
    assert people.stranger.get(f"{one}/restore").status_code == 404


def test_the_console_is_read_by_who_may_and_each_reading_is_audited(people: People, host: Host) -> None:
    path, member = launched(people), people.member
    assert "has not written anything" in words(member.get(f"{path}/console").text)
    (wish,) = host.wishes()
    text = b"\x1b[1;32mboot\x1b[0m <ok>\r\nlogin: "
    console_actions.take(people.plane.context, host.agent_id, wish["id"], 0, text)
    page = member.get(f"{path}/console?kib=64")
    assert "boot &lt;ok&gt;\nlogin:" in page.text
    assert people.auditor.get(f"{path}/console").status_code == 403
    assert people.stranger.get(f"{path}/console").status_code == 404
    assert member.get(f"{path}/console?kib=9999999").status_code == 200
    assert "vm.console_read" in people.admin.get("/audit").text


def test_a_move_is_the_operators_and_says_why_it_cannot_be(people: People, host: Host) -> None:
    path = launched(people)
    assert people.member.get(f"{path}/move").status_code == 403
    assert "It cannot move now: it is provisioning" in words(people.operator.get(f"{path}/move").text)
    host.say()
    assert "no other host" in words(people.operator.get(f"{path}/move").text)
    make_host(people.plane, "hv2")
    asked = words(people.operator.get(f"{path}/move").text)
    assert "It goes on running" in asked
    assert "hv2" in asked
    assert people.operator.send(f"{path}/move", {"node": ""}).status_code == 303
    assert "moves to hv2" in words(people.member.get(path).text)
    assert ">Stop</a>" not in people.member.get(path).text, "what moves is left alone"


def test_its_end_takes_disk_and_snapshots_and_the_page_says_so(people: People, host: Host) -> None:
    path, member = launched(people), people.member
    host.say()
    asked = words(member.get(f"{path}/terminate").text)
    assert "Its disk of 10 GiB and 0 snapshots are deleted" in asked
    assert "Volumes, ports and addresses stay" in asked
    assert member.send(f"{path}/terminate").status_code == 303
    assert "being terminated" in words(member.get(path).text)
    assert ">Terminate</a>" not in member.get(path).text
    host.say("off", phase=Phase.ABSENT)
    people.plane.services.tick()
    assert path in member.get("/machines?show=gone").text
    assert path not in member.get("/machines").text


def test_keys_and_images_go_and_images_in_use_stay(people: People, host: Host) -> None:
    path, member = launched(people), people.member
    assert host.wishes()
    project = people.acme.project_id
    member.send("/ssh-keys", {"name": "laptop", "project": project, "public_key": SSH_KEY})
    key = re.search(rf'href="{BASE}(/ssh-keys/[^"]+/delete)"', member.get("/ssh-keys").text)
    assert key is not None
    assert "keep it" in words(member.get(key[1]).text)
    assert member.send(key[1]).status_code == 303
    assert "No keys yet" in member.get("/ssh-keys").text
    image = re.search(rf'href="{BASE}(/images/[^"]+/delete)"', member.get("/images").text)
    assert image is not None
    refused = member.send(image[1])
    assert (refused.status_code, "terminate them first" in refused.text) == (409, True)
    assert path


def test_escape_sequences_of_a_terminal_are_not_shown() -> None:
    assert printable(b"\x1b[31;1mred\x1b[0m\x07 \x1bMup\r\ntab\there\xff") == "red up\ntab\there\ufffd"
    assert printable(b"\x1b[") == printable(b"\x1b") == ""
