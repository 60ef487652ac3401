"""Whether and how this machine runs virtual machines: said once when it joins, remembered beside its identity."""

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Protocol

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import InvalidInputError, StartupError
from penstock.drivers.base import Driver
from penstock.drivers.libvirt import binding
from penstock.drivers.libvirt.log_file import DEFAULT, LibvirtLog
from penstock.drivers.libvirt.settings import Acceleration, Settings
from penstock.drivers.libvirt.store import ImageSink, ImageSource, KeySource

_FILE = "machines.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a host of virtual machines."""
    parser.add_argument(
        "--libvirt",
        metavar="URI",
        help="run virtual machines on this libvirtd, for example qemu:///system; remembered ('none': not any more)",
    )
    parser.add_argument(
        "--libvirt-arrivals",
        metavar="URI",
        help="address that other hosts move machines to, for example qemu+tls://host2/system; remembered",
    )
    parser.add_argument(
        "--volumes-nfs",
        metavar="FOLDER",
        help="keep volumes of the kind nfs in this folder, where a file server is mounted, at the same path on every host; "
        "remembered ('none': not any more)",
    )
    parser.add_argument(
        "--libvirt-log",
        metavar="FILE",
        help="libvirtd's log, whose newest lines operators of the factory read; remembered ('none': not any more; default: "
        f"{DEFAULT}, if there is one)",
    )
    parser.add_argument(
        "--acceleration",
        choices=[one.value for one in Acceleration],
        help="auto: KVM if a guest really starts on it; kvm; tcg: in software; remembered (default: auto)",
    )

    parser.add_argument(
        "--starts-at-once",
        metavar="N",
        help="how many machines are made and started at the same time, up to "
        f"{limits.VM_STARTS_AT_ONCE_MAX}; remembered ('default': a quarter of this host's processors, and up to "
        f"{limits.VM_STARTS_AT_ONCE} on a small one)",
    )


def remember(state_dir: Path, chosen: argparse.Namespace) -> None:
    """Keep what was said; nothing said keeps what was said before. InvalidInputError if it cannot be."""
    names = ("libvirt", "libvirt_arrivals", "acceleration", "volumes_nfs", "libvirt_log", "starts_at_once")
    if all(getattr(chosen, name) is None for name in names):
        return
    known = _read(state_dir)
    for name in names:
        said = getattr(chosen, name)
        if said is not None:
            known[name] = said
    nfs = known.get("volumes_nfs", "none")
    if nfs == "none":
        known.pop("volumes_nfs", None)
    elif not nfs.startswith("/"):
        raise InvalidInputError(f"'{nfs}' is no absolute path of a folder", field="volumes_nfs")
    log = known.get("libvirt_log", "none")
    if log != "none" and not log.startswith("/"):
        raise InvalidInputError(f"'{log}' is no absolute path of a file", field="libvirt_log")
    uri, arrivals = known.get("libvirt", "none"), known.get("libvirt_arrivals")
    if uri == "none":
        known.pop("libvirt", None)
    elif not uri.startswith("qemu"):
        raise InvalidInputError(f"'{uri}' is no libvirt of QEMU, like qemu:///system", field="libvirt")
    if arrivals is not None and not arrivals.startswith("qemu+"):
        raise InvalidInputError(
            f"'{arrivals}' is no address of a libvirtd, like qemu+tls://host2/system",
            field="libvirt_arrivals",
        )
    _settle_starts(known)
    file = state_dir / _FILE
    file.with_suffix(".new").write_text(json.dumps(known))
    file.with_suffix(".new").replace(file)


def _settle_starts(known: dict[str, str]) -> None:
    starts = known.get("starts_at_once", "default")
    if starts == "default":
        known.pop("starts_at_once", None)
    elif starts not in {str(number) for number in range(1, limits.VM_STARTS_AT_ONCE_MAX + 1)}:
        raise InvalidInputError(
            f"'{starts}' is no number from 1 to {limits.VM_STARTS_AT_ONCE_MAX}", field="starts_at_once"
        )


def _read(state_dir: Path) -> dict[str, str]:
    try:
        return dict(json.loads((state_dir / _FILE).read_text()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StartupError(f"{state_dir / _FILE} cannot be read: {error}; give --libvirt again") from error


def logs(state_dir: Path, clock: Clock) -> list[LibvirtLog]:
    """Return libvirtd's log, where machines run and there is one or one was named."""
    known = _read(state_dir)
    said = known.get("libvirt_log")
    if "libvirt" not in known or said == "none" or (said is None and not DEFAULT.exists()):
        return []
    return [LibvirtLog(DEFAULT if said is None else Path(said), clock)]


class Images(ImageSource, ImageSink, Protocol):
    """The factory's images, both ways."""


def drivers(state_dir: Path, clock: Clock, images: Images, keys: KeySource) -> list[Driver]:
    """Return the drivers of virtual machines and of their volumes, none where none were asked for; StartupError without libvirt's binding."""
    known = _read(state_dir)
    uri = known.get("libvirt")
    if uri is None:
        return []
    if not binding.is_available():
        raise StartupError(binding.MISSING)
    nfs = Path(known["volumes_nfs"]) if "volumes_nfs" in known else None
    settings = Settings(
        uri=uri,
        arrivals=known.get("libvirt_arrivals"),
        acceleration=Acceleration(known.get("acceleration", Acceleration.AUTO)),
        nfs=nfs,
        **({"starts_at_once": int(known["starts_at_once"])} if "starts_at_once" in known else {}),
    )
    # Imported here: a machine that runs none needs none of it.
    driver = import_module("penstock.drivers.libvirt.driver").LibvirtDriver
    local = import_module("penstock.drivers.qcow2.driver").Qcow2VolumeDriver
    found: list[Driver] = [
        driver(state_dir / "libvirt", clock, images, settings, keys, images),
        local(state_dir / "volumes-qcow2", clock, state_dir / "libvirt" / "volumes", keys),
    ]
    if nfs is not None:
        shared = import_module("penstock.drivers.nfs.driver").NfsVolumeDriver
        found.append(shared(state_dir / "volumes-nfs", clock, nfs, keys))
    return found
