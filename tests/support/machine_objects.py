"""SSH keys, images and machines over the API, for tests that need one; no machine really starts."""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penstock.actions import agent as agent_actions
from penstock.actions import node as node_actions
from penstock.actions.node import SiteFacts
from penstock.actions.seed import seed_catalogue
from penstock.control_plane import ControlPlane
from penstock.drivers.base import DeviceFacts, NodeFacts
from tests.support.infrastructure import GIB
from tests.support.tenancy import Tenant

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEn7h3Z0b6Zb8pXx3p4K4d0m4nq3H0yX4o4kCk1mYQ2r ada@initech.test"

GONE = "0" * 26  # of an id that nobody has
# Bodies that pass, for requests about machines.
MACHINE_BODIES: dict[str, dict[str, Any]] = {
    "POST /v1/ssh-keys": {"name": "x", "project_id": f"prj_{GONE}", "public_key": SSH_KEY},
    "POST /v1/images": {"name": "x", "project_id": f"prj_{GONE}"},
    "PUT /v1/images/{image_id}/sharing": {"shared": True},
    "POST /v1/vms": {"project_id": f"prj_{GONE}", "spec": {"image": "x"}},
    "POST /v1/volumes": {"name": "x", "project_id": f"prj_{GONE}", "size_gib": 1},
    "PUT /v1/volumes/{volume_id}/machine": {"vm_id": f"svc_{GONE}"},
    "PUT /v1/volumes/{volume_id}/size": {"size_gib": 2},
    "POST /v1/volumes/{volume_id}/snapshots": {"name": "x"},
    "POST /v1/volumes/{volume_id}/restore": {"snapshot_id": f"vsn_{GONE}"},
    "PUT /v1/vms/{vm_id}/tags": {"tags": {"a": "b"}},
    "POST /v1/vms/{vm_id}/power": {"action": "stop"},
    "POST /v1/vms/{vm_id}/shape": {"vcpus": 2},
    "POST /v1/vms/{vm_id}/snapshots": {"name": "x"},
    "POST /v1/vms/{vm_id}/clone": {"name": "x"},
    "POST /v1/volumes/{volume_id}/clone": {"name": "x"},
    "POST /v1/vms/{vm_id}/move": {"node_id": None},
    "POST /v1/vms/{vm_id}/restore": {"snapshot_id": f"snp_{GONE}"},
}


def qcow2(*, virtual_bytes: int = GIB, **fields: int) -> bytes:
    """Return the smallest thing that passes for a qcow2: a header and room; ``fields`` overwrite it by offset and size."""
    head = bytearray(1_024)
    head[0:4] = b"QFI\xfb"
    head[4:8] = (3).to_bytes(4, "big")
    head[20:24] = (16).to_bytes(4, "big")
    head[24:32] = virtual_bytes.to_bytes(8, "big")
    head[36:40] = (1).to_bytes(4, "big")
    head[40:48] = (512).to_bytes(8, "big")
    places = {
        "version": (4, 4),
        "backing": (8, 8),
        "cluster_bits": (20, 4),
        "crypt": (32, 4),
        "features": (72, 8),
    }
    places |= {"table_entries": (36, 4), "table_offset": (40, 8)}
    places |= {
        "counts_offset": (48, 8),
        "counts_clusters": (56, 4),
        "snapshots": (60, 4),
        "refcount_order": (96, 4),
    }
    for name, value in fields.items():
        offset, size = places[name]
        head[offset : offset + size] = value.to_bytes(size, "big")
    return bytes(head)


def made(answer: Any) -> dict[str, Any]:
    """Return what was made; the test fails with the answer if it was not."""
    assert answer.status_code in (200, 201, 202), answer.text
    document: dict[str, Any] = answer.json()
    return document


def make_ssh_key(tenant: Tenant, name: str) -> str:
    """Register a key and return its id."""
    body = {"project_id": tenant.project_id, "name": name, "public_key": SSH_KEY}
    return str(made(tenant.member.post("/v1/ssh-keys", **body))["id"])


def make_image(tenant: Tenant, name: str, **more: Any) -> str:
    """Announce an image and return its id; ``send_image`` gives it bytes."""
    return str(made(tenant.member.post("/v1/images", project_id=tenant.project_id, name=name, **more))["id"])


def send_image(tenant: Tenant, image_id: str, data: bytes) -> Any:
    """Send an image's bytes and return the answer."""
    return tenant.member.request("PUT", f"/v1/images/{image_id}/content", content=data)


def make_host(
    plane: ControlPlane,
    name: str = "hv1",
    *,
    memory_bytes: int = 64 * GIB,
    drivers: tuple[str, ...] = ("libvirt",),
    devices: Sequence[DeviceFacts] = (),
) -> tuple[str, str]:
    """Enrol a node that says it runs machines; return the ids of its agent and of the node."""
    agent_id = agent_actions.ensure_in_process(plane.context, f"agent-{name}")
    facts = NodeFacts(name, "x86_64", "EPYC", 16, 16, memory_bytes, devices=devices)
    ids = node_actions.enroll(
        plane.context, agent_id, SiteFacts("local", simulated=False), [facts], {name: drivers}
    )
    return agent_id, ids[name]


def make_vm(plane: ControlPlane, tenant: Tenant, name: str, **spec: Any) -> str:
    """Launch a machine from an image of its own and return its id; it is placed only where a host is."""
    seed_catalogue(plane.context)
    plane.keep_images_in(Path(tempfile.mkdtemp(prefix="penstock-images-")))
    image_id = make_image(tenant, f"image-{name}")
    made(send_image(tenant, image_id, qcow2()))
    body = {"project_id": tenant.project_id, "name": name, "spec": {"image": image_id, **spec}}
    return str(made(tenant.member.post("/v1/vms", **body))["id"])


def make_volume(tenant: Tenant, name: str, **more: Any) -> str:
    """Make a volume of 1 GiB and return its id."""
    body = {"project_id": tenant.project_id, "name": name, "size_gib": 1, **more}
    return str(made(tenant.member.post("/v1/volumes", **body))["id"])


def sha256_of(data: bytes) -> str:
    """Return a digest as the API has it."""
    return hashlib.sha256(data).hexdigest()
