"""libvirt's Python binding, found where it is: in this environment, or as Debian's package beside it.

Debian's python3-libvirt serves the system's interpreter. Its two modules fit any CPython of the same version, so
they are loaded by path, and nothing else of the system's packages comes within reach of an import.
"""

import sys
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from threading import Lock
from typing import Any

from penstock.base.errors import UnavailableError

SYSTEM_FOLDER = Path("/usr/lib/python3/dist-packages")
MISSING = (
    "libvirt's Python binding is not here: install Debian's python3-libvirt (for the same Python version as this one), "
    "or libvirt-python into this environment"
)
_lock = Lock()


def load(folder: Path = SYSTEM_FOLDER) -> Any:
    """Return the module ``libvirt``; UnavailableError says what to install where there is none."""
    with _lock:
        try:
            module: Any = import_module("libvirt")
        except ImportError:
            module = _from_system(folder)
        module.registerErrorHandler(_ignore, None)  # every error is raised too; stderr is not its place
        return module


def is_available(folder: Path = SYSTEM_FOLDER) -> bool:
    """Tell whether ``load`` would succeed."""
    try:
        load(folder)
    except UnavailableError:
        return False
    return True


def _ignore(context: object, error: object) -> None:
    del context, error


def _from_system(folder: Path) -> Any:
    native = next(
        (file for suffix in EXTENSION_SUFFIXES for file in folder.glob(f"libvirtmod{suffix}")), None
    )
    source = folder / "libvirt.py"
    if native is None or not source.is_file():
        raise UnavailableError(MISSING)
    try:
        _load_as("libvirtmod", native)
        return _load_as("libvirt", source)
    except (ImportError, OSError) as error:
        for name in ("libvirt", "libvirtmod"):
            sys.modules.pop(name, None)
        raise UnavailableError(f"{MISSING} ({error})") from error


def _load_as(name: str, file: Path) -> Any:
    loader = ExtensionFileLoader(name, str(file)) if file.suffix == ".so" else None
    spec = spec_from_file_location(name, file, loader=loader)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no module")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
