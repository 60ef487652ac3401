"""Volumes at the console: priced, made, attached, grown, snapshot and put back, detached, deleted; refusals are said in place."""

import re
from dataclasses import replace

import pytest

from penstock.actions.seed import seed_catalogue
from penstock.console.secure import BASE
from tests.fixtures.console import People
from tests.support.console import words
from tests.support.machine_host import Host
from tests.support.machine_objects import make_vm, make_volume


@pytest.fixture
def host(people: People) -> Host:
    return Host(people.plane, drivers=("libvirt", "qcow2"))


def test_a_volume_is_priced_made_attached_and_grown_from_the_pages(people: People, host: Host) -> None:
    seed_catalogue(people.plane.context)
    member, project = people.member, people.acme.project_id
    assert "No volumes yet" in words(member.get("/volumes").text)
    asked = {"name": "data", "project_id": project, "size_gib": "2", "driver": "qcow2"}
    priced = member.send("/volumes", {**asked, "ask": "1"})
    assert "Nothing was made yet. It would cost" in words(priced.text)
    assert 'value="data"' in priced.text, "what was filled in stays"
    for change, said in (
        ({"name": "Da Ta"}, "small letters"),
        ({"size_gib": "0"}, "whole number from 1"),
        ({"size_gib": "x"}, "whole number from 1"),
        ({"driver": "tape"}, "choose one of"),
        ({"description": "\x1b[1m"}, "control characters"),
    ):
        refused = member.send("/volumes", {**asked, **change})
        assert (refused.status_code, said in refused.text.lower()) == (422, True), change
        assert refused.text.count('class="wrong"') == 1, "beside the field, once"
    assert member.send("/volumes", {**asked, "project_id": people.globex.project_id}).status_code == 404
    assert "No volumes yet" in words(member.get("/volumes").text)
    made = member.send("/volumes", asked)
    path = made.headers["location"].removeprefix(BASE)
    assert re.fullmatch(r"/volumes/vol_\w+", path)
    assert member.send("/volumes", asked).status_code == 409

    assert "This project has no machine" in words(member.get(f"{path}/attach").text)
    inside = replace(people.acme, member=replace(people.acme.member, client=member.browser))
    vm_id = make_vm(people.plane, inside, "web-1")
    assert member.send(f"{path}/attach", {"vm_id": vm_id}).status_code == 409, "it is not on a host yet"
    assert host.machine().volumes == ()
    host.say()
    assert "and only machines there" in words(member.get(f"{path}/attach").text)
    assert member.send(f"{path}/attach", {"vm_id": "svc_" + "0" * 26}).status_code == 404
    assert member.send(f"{path}/attach", {"vm_id": vm_id}).status_code == 303
    shown = words(member.get(path).text)
    for text in ("attaching", "web-1", "hv1", "/dev/disk/by-id/virtio-"):
        assert text in shown, text
    assert path in member.get(f"/machines/{vm_id}").text
    refused = member.send(f"{path}/delete")
    assert (refused.status_code, "has this volume" in refused.text) == (409, True)
    assert member.send(f"{path}/size", {"size_gib": "1"}).status_code == 422
    assert member.send(f"{path}/size", {"size_gib": "4"}).status_code == 303
    assert "4 GiB" in words(member.get(path).text)
    assert "unmount it inside first" in words(member.get(f"{path}/detach").text)
    assert member.send(f"{path}/snapshots", {"name": "before"}).status_code == 303
    (snapshot_id,) = set(re.findall(r"vsn_\w{26}", member.get(path).text))
    assert member.send(f"{path}/snapshots/{snapshot_id}/restore").status_code == 409, "a machine has it"
    assert member.send(f"{path}/detach").status_code == 303
    host.say(snapshots={snapshot_id: 4 << 20})
    people.plane.vms.tick()
    assert "4.0 MiB" in member.get(path).text
    assert "is lost" in words(member.get(f"{path}/snapshots/{snapshot_id}/restore").text)
    back = member.send(f"{path}/snapshots/{snapshot_id}/restore")
    assert back.headers["location"] == f"{BASE}{path}"
    host.say(snapshots={snapshot_id: 4 << 20})
    assert "cannot be got back" in words(member.get(f"{path}/snapshots/{snapshot_id}/delete").text)
    assert member.send(f"{path}/snapshots/{snapshot_id}/delete").status_code == 303
    assert snapshot_id not in member.get(path).text


def test_a_volume_is_cloned_as_it_is_and_as_a_snapshot_has_it(people: People, host: Host) -> None:
    seed_catalogue(people.plane.context)
    member = people.member
    inside = replace(people.acme, member=replace(people.acme.member, client=member.browser))
    volume_id, vm_id = make_volume(inside, "data", size_gib=2), make_vm(people.plane, inside, "web-1")
    path = f"/volumes/{volume_id}"
    none_yet = member.send(f"{path}/clone", {"name": "x"})
    assert (none_yet.status_code, "no bytes yet" in none_yet.text) == (409, True)

    def settle(**detail: object) -> None:
        for _ in range(4):
            people.plane.volumes.tick()
            host.say(stamps=True, **detail)

    settle()
    member.send(f"{path}/attach", {"vm_id": vm_id})
    settle()
    member.send(f"{path}/snapshots", {"name": "before"})
    (snapshot_id,) = set(re.findall(r"vsn_\w{26}", member.get(path).text))
    settle(snapshots={snapshot_id: 4 << 20})
    shown = member.get(path).text
    for link in (f"{path}/clone", f"{path}/clone?snapshot={snapshot_id}"):
        assert f'href="{BASE}{link}"' in shown
    asked = member.get(f"{path}/clone?snapshot={snapshot_id}").text
    assert f'value="{snapshot_id}" selected' in asked
    good = {"name": "copy", "snapshot_id": snapshot_id, "size_gib": "3", "description": "a copy"}
    priced = member.send(f"{path}/clone", {**good, "ask": "1"})
    assert "Nothing was made yet. It would cost" in words(priced.text)
    for change, field in (
        ({"name": "Co Py"}, "name"),
        ({"size_gib": "1"}, "size_gib"),
        ({"size_gib": "x"}, "size_gib"),
    ):
        refused = member.send(f"{path}/clone", {**good, **change})
        assert (refused.status_code, f'id="w-{field}"' in refused.text) == (422, True), change
    running = member.send(f"{path}/clone", {**good, "snapshot_id": ""})
    assert (running.status_code, "running machine writes" in running.text) == (409, True)
    assert member.send(f"{path}/clone", {**good, "snapshot_id": "vsn_" + "0" * 26}).status_code == 404
    assert words(member.get("/volumes").text).count("copy") == 0, "nothing half-made"
    made = member.send(f"{path}/clone", good)
    clone = made.headers["location"].removeprefix(BASE)
    page = words(member.get(clone).text)
    for text in ("copy", "3 GiB", "a copy", "copying"):
        assert text in page, text
    assert people.stranger.get(f"{path}/clone").status_code == 404
    assert people.stranger.send(f"{path}/clone", good).status_code == 404
    assert people.auditor.get(f"{path}/clone").status_code == 403
    assert people.auditor.send(f"{path}/clone", good).status_code == 403
    assert ">Clone</a>" not in people.auditor.get(path).text


def test_snapshots_of_a_volume_and_its_end(people: People) -> None:
    member = people.member
    inside = replace(people.acme, member=replace(people.acme.member, client=member.browser))
    path = f"/volumes/{make_volume(inside, 'data')}"
    none_yet = member.send(f"{path}/snapshots", {"name": "before"})
    assert (none_yet.status_code, "attach it to a machine first" in none_yet.text) == (409, True)
    assert member.send(f"{path}/snapshots", {"name": "Be Fore"}).status_code == 422
    gone = f"{path}/snapshots/vsn_{'0' * 26}"
    assert member.get(f"{gone}/restore").status_code == 404
    assert member.send(f"{gone}/delete").status_code == 404
    assert "cannot be undone" in words(member.get(f"{path}/delete").text)
    assert member.send(f"{path}/delete").headers["location"] == f"{BASE}/volumes"
    assert "deleting" in words(member.get(path).text)
    assert ">Delete</a>" not in member.get(path).text


def test_others_see_nothing_and_readers_change_nothing(people: People) -> None:
    inside = replace(people.acme, member=replace(people.acme.member, client=people.member.browser))
    path = f"/volumes/{make_volume(inside, 'data')}"
    for page in (path, f"{path}/attach", f"{path}/detach", f"{path}/delete"):
        assert people.stranger.get(page).status_code == 404, page
    for form in ("attach", "detach", "size", "delete", "snapshots"):
        assert people.stranger.send(f"{path}/{form}", {"name": "x", "size_gib": "9"}).status_code == 404, form
    shown = people.auditor.get(path)
    assert shown.status_code == 200
    for act in ("Attach it", "Delete", "Take a snapshot", "Make it larger"):
        assert act not in words(shown.text), act
    assert "Make a volume" not in words(people.auditor.get("/volumes").text)
    assert people.auditor.get("/volumes/new").status_code == 403
    for form in ("attach", "detach", "size", "delete"):
        assert people.auditor.send(f"{path}/{form}", {"size_gib": "9"}).status_code == 403, form
