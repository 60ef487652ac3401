"""Images by address: fetched, judged, gone on with after a kill, or failed with a reason; nothing half-made is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.domain.role import Role
from penstock.engine.image import ImageEngine
from tests.support.command_line import CommandLine
from tests.support.image_server import ImageServer, Served, image_server
from tests.support.infrastructure import change, query
from tests.support.machine_objects import made, make_image, qcow2, send_image, sha256_of
from tests.support.tenancy import Caller, Tenant, make_caller
from tests.support.waiting import until

DATA = qcow2() + os.urandom(1 << 20)
URL = "https://localhost/tiny.qcow2"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ImageServer]:
    with image_server(tmp_path) as found:
        yield found


@pytest.fixture
def images(control_plane: ControlPlane, tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    control_plane.keep_images_in(tmp_path / "images")
    return tmp_path / "images"


@pytest.fixture
def engine(control_plane: ControlPlane, clock: ManualClock, server: ImageServer, images: Path) -> ImageEngine:
    assert images.is_dir()
    return server.engine(control_plane, clock)


def fetched(engine: ImageEngine, tenant: Tenant, image_id: str) -> dict[str, Any]:
    engine.tick()
    engine.wait()
    return dict(tenant.member.get(f"/v1/images/{image_id}").json())


def kinds(plane: ControlPlane, image_id: str) -> list[str]:
    rows = query(plane.context, "SELECT kind FROM event WHERE subject_id = :id ORDER BY id", id=image_id)
    return [row["kind"] for row in rows]


def test_an_image_is_fetched_and_judged(
    control_plane: ControlPlane,
    acme: Tenant,
    globex: Tenant,
    engine: ImageEngine,
    server: ImageServer,
    images: Path,
) -> None:
    server.files["/there"] = Served(b"", location=URL)
    server.files["/tiny.qcow2"] = Served(DATA)
    image_id = make_image(acme, "tiny", source_url="https://localhost/there?signature=secret")
    assert "being fetched" in acme.member.get(f"/v1/images/{image_id}").json()["state_sentence"]
    assert send_image(acme, image_id, DATA).status_code == 409
    assert globex.member.get(f"/v1/images/{image_id}").status_code == 404
    shown = fetched(engine, acme, image_id)
    assert (shown["state"], shown["sha256"], shown["size_bytes"]) == ("active", sha256_of(DATA), len(DATA))
    assert (shown["received_bytes"], shown["total_bytes"]) == (len(DATA), len(DATA))
    assert shown["provenance"]["url"] == "https://localhost/there"
    assert (images / f"{image_id}.qcow2").read_bytes() == DATA
    assert kinds(control_plane, image_id) == ["image.created", "image.active"]
    assert query(control_plane.context, "SELECT id FROM image WHERE source_url IS NOT NULL") == []
    (audited,) = query(control_plane.context, "SELECT detail FROM audit WHERE subject_id = :id", id=image_id)
    assert "secret" not in str(audited)
    assert acme.member.delete(f"/v1/images/{image_id}").status_code == 204
    assert list(images.iterdir()) == []


WRONG = [
    (Served(b"\x7fELF" + bytes(1_000)), "an ELF program"),
    (Served(b"\x1f\x8b" + bytes(1_000)), "this is gzip"),
    (Served(b"\xfd7zXZ" + bytes(1_000)), "this is xz"),
    (Served(qcow2(backing=104)), "backing file"),
    (Served(qcow2(virtual_bytes=1 << 60)), "as a disk"),
    (Served(b""), "this is nothing"),
    (Served(qcow2() + b"x"), "the SHA-256"),
    (Served(b"", statuses=[404]), "answers 404"),
    (Served(b"", location="https://10.0.0.1/x"), "no public address"),
    (Served(b"", location="https://169.254.169.254/x"), "no public address"),
    (Served(b"", location="https://localhost/8"), "no public address"),
    (Served(b"", location="https://localhost/11"), "redirections"),
]


def test_what_is_no_image_fails_with_its_reason(
    acme: Tenant, engine: ImageEngine, server: ImageServer, images: Path
) -> None:
    for number, (served, said) in enumerate(WRONG):
        server.files[f"/{number}"] = served
        url = f"https://localhost/{number}"
        image_id = make_image(acme, f"wrong-{number}", source_url=url, sha256=sha256_of(qcow2()))
        shown = fetched(engine, acme, image_id)
        assert (shown["state"], said in shown["message"]) == ("failed", True), shown["message"]
        assert list(images.iterdir()) == []
        assert engine.tick() == 0, "it is not tried again"
        assert send_image(acme, image_id, qcow2()).status_code == 409
        body = {"project_id": acme.project_id, "name": "x", "spec": {"image": image_id}}
        assert acme.member.post("/v1/vms", **body).status_code in (404, 422)


def test_one_over_the_limit_is_not_taken_in(
    acme: Tenant, engine: ImageEngine, server: ImageServer, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IMAGE_BYTES_MAX", 1 << 19)
    for name, says_size in (("said", True), ("unsaid", False)):
        server.files["/tiny.qcow2"] = Served(DATA, says_size=says_size)
        shown = fetched(engine, acme, make_image(acme, name, source_url=URL))
        assert (shown["state"], "at most" in shown["message"]) == ("failed", True), shown["message"]
        assert list(images.iterdir()) == []


def test_an_address_that_may_not_be_asked_is_refused_at_once(acme: Tenant, images: Path) -> None:
    assert images.is_dir()
    hosts = ("https://10.0.0.1/x", "https://a:b@example.org/x", "https://example.org:22/")
    for url in ("http://example.org/x", "x", *hosts):
        answer = acme.member.post("/v1/images", project_id=acme.project_id, name="tiny", source_url=url)
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, "source_url")


def test_a_broken_connection_is_gone_on_with(
    acme: Tenant, engine: ImageEngine, server: ImageServer, clock: ManualClock
) -> None:
    one = server.files["/tiny.qcow2"] = Served(DATA, cut_after=1 << 19, statuses=[503])
    image_id = make_image(acme, "tiny", source_url=URL)
    assert "answers 503; it is tried again" in fetched(engine, acme, image_id)["message"]
    assert engine.tick() == 0, "not at once"
    clock.advance(timedelta(minutes=1))
    shown = fetched(engine, acme, image_id)
    assert (shown["state"], shown["total_bytes"]) == ("pending", len(DATA))
    one.cut_after = None
    clock.advance(timedelta(minutes=1))
    assert fetched(engine, acme, image_id)["state"] == "active"
    assert one.asked == [None, None, f"bytes={1 << 19}-"]


def test_another_version_of_the_file_is_begun_anew(
    acme: Tenant, engine: ImageEngine, server: ImageServer, clock: ManualClock
) -> None:
    one = server.files["/tiny.qcow2"] = Served(DATA, cut_after=1 << 19)
    image_id = make_image(acme, "tiny", source_url=URL)
    fetched(engine, acme, image_id)
    one.cut_after, one.etag, one.data = None, '"two"', qcow2() + bytes(5_000)
    clock.advance(timedelta(minutes=1))
    assert fetched(engine, acme, image_id)["sha256"] == sha256_of(one.data)


def test_a_server_that_never_answers_fails_in_the_end(
    acme: Tenant, engine: ImageEngine, server: ImageServer, clock: ManualClock, images: Path
) -> None:
    server.files["/tiny.qcow2"] = Served(DATA, statuses=[503] * 100)
    image_id = make_image(acme, "tiny", source_url=URL)
    for _ in range(limits.IMAGE_FETCH_ATTEMPTS - 1):
        assert fetched(engine, acme, image_id)["state"] == "pending"
        clock.advance(timedelta(minutes=1))
    shown = fetched(engine, acme, image_id)
    assert (shown["state"], shown["message"]) == ("failed", "the server answers 503")
    assert list(images.iterdir()) == []


def test_how_far_it_is_can_be_read_and_a_deleted_one_ends(
    acme: Tenant, engine: ImageEngine, server: ImageServer, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IMAGE_PROGRESS_SECONDS", 0.0)
    one = server.files["/tiny.qcow2"] = Served(DATA, holds_after=1 << 19)
    image_id = make_image(acme, "tiny", source_url=URL)
    assert engine.tick() == 1

    def shown() -> dict[str, Any]:
        return dict(acme.member.get(f"/v1/images/{image_id}").json())

    until(lambda: shown()["received_bytes"] == 1 << 19, "half of it is there")
    assert shown()["total_bytes"] == len(DATA)
    assert acme.member.delete(f"/v1/images/{image_id}").status_code == 204
    one.released.set()
    engine.wait()
    assert list(images.iterdir()) == []


def test_one_tenant_does_not_hold_up_another(
    acme: Tenant, globex: Tenant, engine: ImageEngine, server: ImageServer
) -> None:
    server.files["/slow"] = Served(DATA, holds_after=0)
    server.files["/tiny.qcow2"] = Served(DATA)
    for number in range(limits.IMAGE_FETCHES_AT_ONCE):
        make_image(acme, f"slow-{number}", source_url="https://localhost/slow")
    other = make_image(globex, "tiny", source_url=URL)
    assert engine.tick() == limits.IMAGE_FETCHES_PER_TENANT + 1
    until(lambda: globex.member.get(f"/v1/images/{other}").json()["state"] == "active", "theirs is there")
    server.files["/slow"].released.set()
    engine.wait()


def test_a_killed_engine_is_gone_on_after(
    control_plane: ControlPlane,
    database_url: str,
    acme: Tenant,
    engine: ImageEngine,
    server: ImageServer,
    images: Path,
    clock: ManualClock,
) -> None:
    one = server.files["/tiny.qcow2"] = Served(DATA, holds_after=1 << 19)
    image_id = make_image(acme, "tiny", source_url=URL)
    change(
        control_plane.context, "UPDATE image SET created_at = now()"
    )  # the other process goes by the real time
    command = [sys.executable, "-m", "tests.support.image_server", database_url, str(images)]
    process = subprocess.Popen([*command, str(server.port), str(server.certificate)])
    part = images / f".{image_id}.fetched.part"
    try:
        # Buffered bytes are not there yet: what counts is that some are.
        until(lambda: part.exists() and part.stat().st_size > 1 << 17, "part of it is there")
        assert engine.tick() == 0, "somebody is at it"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    there = part.stat().st_size
    one.released.set()
    clock.advance(timedelta(days=40))
    change(control_plane.context, "UPDATE image SET created_at = :now", now=clock.now())
    assert engine.sweep() == 0, "a part that is gone on with stays"
    shown = fetched(engine, acme, image_id)
    assert (shown["state"], shown["sha256"]) == ("active", sha256_of(DATA))
    assert one.asked == [None, f"bytes={there}-"]
    assert [file.name for file in images.iterdir()] == [f"{image_id}.qcow2"]


def test_one_killed_between_keeping_and_saying_so_is_taken_as_it_is(
    control_plane: ControlPlane, acme: Tenant, engine: ImageEngine, server: ImageServer, images: Path
) -> None:
    one = server.files["/tiny.qcow2"] = Served(DATA, statuses=[503])
    image_id = make_image(acme, "tiny", source_url=URL, sha256=sha256_of(DATA))
    change_to = "UPDATE image SET total_bytes = :size, etag = '\"one\"'"
    change(control_plane.context, change_to, size=len(DATA))
    (images / f"{image_id}.qcow2").write_bytes(DATA)
    assert fetched(engine, acme, image_id)["state"] == "active"
    assert one.asked == []
    assert [file.name for file in images.iterdir()] == [f"{image_id}.qcow2"]


def test_what_killed_processes_left_is_swept_away(acme: Tenant, engine: ImageEngine, images: Path) -> None:
    kept = make_image(acme, "kept")
    made(send_image(acme, kept, qcow2()))
    dead = images / f".{make_image(acme, 'sent')}.0a1b2c3d.part"
    orphan = images / f"img_{'0' * 26}.qcow2"
    for file in (dead, orphan, images / "notes.txt"):
        file.write_bytes(b"x")
    assert engine.sweep() == 2
    assert sorted(file.name for file in images.iterdir()) == [f"{kept}.qcow2", "notes.txt"]


def test_an_image_is_shared_with_chosen_projects(
    control_plane: ControlPlane, acme: Tenant, globex: Tenant, operator: Caller, images: Path
) -> None:
    assert images.is_dir()
    control_plane.seed()
    second, third = (made(acme.admin.post("/v1/projects", name=name))["id"] for name in ("two", "three"))
    image_id = make_image(acme, "tiny", shared_with=[second])
    made(send_image(acme, image_id, qcow2()))
    of_second, of_third = (
        make_caller(
            control_plane, acme.member.client, name, Role.MEMBER, tenant_id=acme.id, project_id=project_id
        )
        for name, project_id in (("two", second), ("three", third))
    )

    def seen(caller: Caller) -> tuple[int, int]:
        return caller.get(f"/v1/images/{image_id}").status_code, len(caller.get("/v1/images").json()["items"])

    def launched(caller: Caller, project_id: str) -> int:
        body = {"project": project_id, "name": "x", "offer": "vm", "spec": {"image": "tiny"}}
        answer = caller.request("POST", "/v1/services", params={"dry_run": True}, json=body)
        return answer.status_code

    assert (seen(of_second), seen(of_third)) == ((200, 1), (404, 0))
    assert (launched(of_second, second), launched(of_third, third)) == (200, 422)
    assert of_second.delete(f"/v1/images/{image_id}").status_code == 403
    path = f"/v1/images/{image_id}/sharing"
    assert of_second.put(path, shared=True).status_code == 403
    assert acme.member.put(path, shared_with=[globex.project_id]).status_code == 404
    assert operator.put(path, shared_with=[globex.project_id]).status_code == 422
    assert made(acme.member.put(path, shared_with=[third]))["shared_with"] == [third]
    assert (seen(of_second), seen(of_third)) == ((404, 0), (200, 1))
    assert made(acme.member.put(path, shared=True))["shared_with"] == []
    assert (seen(of_second), seen(of_third)) == ((200, 1), (200, 1))
    assert kinds(control_plane, image_id)[-2:] == ["image.shared", "image.shared"]
    public = made(operator.post("/v1/images", name="debian"))["id"]
    assert operator.put(f"/v1/images/{public}/sharing", shared=True).status_code == 409
    assert operator.post("/v1/images", name="x", shared_with=[second]).status_code == 422


def test_it_is_fetched_and_shared_by_command(
    acme: Tenant, served: str, engine: ImageEngine, server: ImageServer
) -> None:
    server.files["/tiny.qcow2"] = Served(DATA)
    penstock = CommandLine(served, acme.member.key)
    assert penstock("image", "add", "tiny").exit_code == 2
    assert penstock("image", "add", "tiny", "--url", "http://localhost/x").exit_code == 3
    add = ("image", "add", "tiny", "--url", URL)
    assert penstock.json(*add)["state"] == "pending"
    engine.tick()
    engine.wait()
    assert penstock.json("image", "show", "tiny")["state"] == "active"
    assert "localhost/tiny.qcow2" in penstock("image", "show", "tiny").stdout
    assert penstock.json("image", "share", "tiny", "--all")["shared"] is True
    made(acme.member.post("/v1/images", project_id=acme.project_id, name="bad", source_url=f"{URL}.not"))
    server.files["/tiny.qcow2.not"] = Served(b"x" * 600)
    engine.tick()
    engine.wait()
    assert "of no known form" in penstock.json("image", "show", "bad")["message"]
