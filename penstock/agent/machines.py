"""Whether and how this machine runs virtual machines: said once when it joins, remembered beside its identity."""

import argparse
import json
from importlib import import_module
from pathlib import Path

from penstock.base.clock import Clock
from penstock.base.errors import InvalidInputError, StartupError
from penstock.drivers.base import Driver
from penstock.drivers.libvirt import binding
from penstock.drivers.libvirt.settings import Acceleration, Settings
from penstock.drivers.libvirt.store import ImageSource

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
        "--acceleration",
        choices=[one.value for one in Acceleration],
        help="auto: KVM if a guest really starts on it; kvm; tcg: in software; remembered (default: auto)",
    )


def remember(state_dir: Path, chosen: argparse.Namespace) -> None:
    """Keep what was said; nothing said keeps what was said before. InvalidInputError if it cannot be."""
    if chosen.libvirt is None and chosen.libvirt_arrivals is None and chosen.acceleration is None:
        return
    known = _read(state_dir)
    for name in ("libvirt", "libvirt_arrivals", "acceleration"):
        said = getattr(chosen, name)
        if said is not None:
            known[name] = said
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
    file = state_dir / _FILE
    file.with_suffix(".new").write_text(json.dumps(known))
    file.with_suffix(".new").replace(file)


def _read(state_dir: Path) -> dict[str, str]:
    try:
        return dict(json.loads((state_dir / _FILE).read_text()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StartupError(f"{state_dir / _FILE} cannot be read: {error}; give --libvirt again") from error


def drivers(state_dir: Path, clock: Clock, images: ImageSource) -> list[Driver]:
    """Return the driver of virtual machines, none where none were asked for; StartupError without libvirt's binding."""
    known = _read(state_dir)
    uri = known.get("libvirt")
    if uri is None:
        return []
    if not binding.is_available():
        raise StartupError(binding.MISSING)
    settings = Settings(
        uri=uri,
        arrivals=known.get("libvirt_arrivals"),
        acceleration=Acceleration(known.get("acceleration", Acceleration.AUTO)),
    )
    # Imported here: a machine that runs none needs none of it.
    driver = import_module("penstock.drivers.libvirt.driver").LibvirtDriver
    return [driver(state_dir / "libvirt", clock, images, settings)]
