"""A store of images that is full: what does not fit is refused, nothing half-made stays, and it is taken once there is room."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from penstock.control_plane import ControlPlane
from penstock.drivers.images import folder as image_folder
from tests.support.machine_objects import made, make_image, qcow2, send_image
from tests.support.tenancy import Tenant


@contextmanager
def _disk(place: Path, size_bytes: int) -> Iterator[None]:
    """Mount a disk of that size."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts a small disk")
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_store_takes_nothing_and_keeps_no_halves(
    control_plane: ControlPlane, acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "images"
    control_plane.keep_images_in(place)
    data = qcow2() + bytes(1 << 20)

    def refused(image_id: str) -> str:
        answer = send_image(acme, image_id, data)
        assert answer.status_code == 503, answer.text
        assert list(place.iterdir()) == [], "nothing half-made"
        assert acme.member.get(f"/v1/images/{image_id}").json()["state"] == "pending"
        return str(answer.json()["error"]["message"])

    with _disk(place, 256 << 10):
        image_id = make_image(acme, "big")
        assert "the image store is full" in refused(image_id), "there must be room beside it"
        monkeypatch.setattr(image_folder, "_ROOM_BYTES", 0)
        assert "No space left" in refused(image_id), "full in the middle of an image"
        body = {"project_id": acme.project_id, "name": "x", "spec": {"image": "big"}}
        control_plane.seed()
        assert acme.member.post("/v1/vms", **body).status_code in (409, 422), (
            "no machine starts from half an image"
        )
        subprocess.run(["mount", "-o", f"remount,size={4 << 20}", str(place)], check=True)
        assert made(send_image(acme, image_id, data))["state"] == "active"
        assert acme.member.delete(f"/v1/images/{image_id}").status_code == 204
        assert list(place.iterdir()) == []
