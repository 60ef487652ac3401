"""The NoCloud seed: a small CD with meta-data, user-data and network-config that cloud-init reads at boot."""

import shutil
import tempfile
from pathlib import Path

import orjson

from penstock.drivers.libvirt.machine import Seed
from penstock.drivers.libvirt.programs import run

_NETWORK = "version: 2\nethernets:\n  all:\n    match: {name: 'e*'}\n    dhcp4: true\n"


def meta_data(seed: Seed) -> str:
    """Return meta-data; a key is quoted as JSON, which YAML reads too, so that none can be more than a key."""
    lines = [f"instance-id: {seed.instance_id}", f"local-hostname: {seed.host_name}"]
    if seed.ssh_keys:
        lines += ["public-keys:", *(f"  - {orjson.dumps(key).decode()}" for key in seed.ssh_keys)]
    return "\n".join(lines) + "\n"


def write_seed(seed: Seed, file: Path) -> None:
    """Write the CD, all or nothing. ProgramError if genisoimage fails, UnavailableError if it is not there."""
    folder = Path(tempfile.mkdtemp(dir=file.parent, prefix=".seed-"))
    try:
        (folder / "meta-data").write_text(meta_data(seed), "utf-8")
        (folder / "user-data").write_bytes(seed.user_data or b"#cloud-config\n{}\n")
        (folder / "network-config").write_text(_NETWORK, "utf-8")
        partial = folder / "seed.iso"
        parts = [folder / name for name in ("meta-data", "user-data", "network-config")]
        run(
            [
                "genisoimage",
                "-quiet",
                "-output",
                partial,
                "-volid",
                "cidata",
                "-joliet",
                "-rational-rock",
                *parts,
            ]
        )
        partial.replace(file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
