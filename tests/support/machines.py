"""Configs of machines for the driver ``libvirt``, and images to start them from."""

import hashlib
import subprocess
import uuid
from pathlib import Path
from typing import Any


def facts_of(file: Path, image_id: str) -> dict[str, Any]:
    """Return what a config says of an image."""
    data = file.read_bytes()
    return {"id": image_id, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}


def blank_image(file: Path) -> dict[str, Any]:
    """Make an empty disk, for machines that need no guest; return what a config says of it."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(file), "1M"], check=True)
    return facts_of(file, file.name)


def config(*, image: dict[str, Any], host_name: str = "one", **changes: Any) -> dict[str, Any]:
    """Return the config of a small machine on the host's bridge."""
    number = uuid.uuid4()
    return {
        "host_name": host_name,
        "uuid": str(number),
        "vcpus": 1,
        "memory_mib": 64,
        "disk_gib": 1,
        "image": image,
        "seed": {"instance_id": "i-1", "ssh_keys": []},
        "nics": [
            {"bridge": "br0", "mac": "52:54:00:" + ":".join(f"{byte:02x}" for byte in number.bytes[:3])}
        ],
        **changes,
    }
