"""The programs of QEMU and of ISO images that the driver runs: always by argument list, always with a time limit."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import orjson

from penstock.base import limits
from penstock.base.errors import InvalidInputError, PenstockError, UnavailableError

_PACKAGES = {"qemu-img": "qemu-utils", "genisoimage": "genisoimage"}
_SAID_MAX = 300


class ProgramError(PenstockError):
    """A program refused its work; the sentence ends with what it said."""

    code = "program_failed"
    status = 500


def run(arguments: Sequence[str | Path], *, seconds: float = limits.VM_PROGRAM_SECONDS) -> str:
    """Run a program and return what it printed; UnavailableError if it is not installed, ProgramError if it fails."""
    name = str(arguments[0])
    found = shutil.which(name)
    if found is None:
        raise UnavailableError(f"'{name}' is not on this machine: install {_PACKAGES.get(name, name)}")
    try:
        done = subprocess.run(  # noqa: S603 - a program of our choice with a list of arguments, no shell
            [found, *map(str, arguments[1:])],
            capture_output=True,
            check=False,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"'{name}' did not end within {seconds:.0f} s") from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()[:_SAID_MAX]
        raise ProgramError(f"'{name}' failed: {said or done.returncode}")
    return done.stdout.decode("utf-8", "replace")


def image_facts(file: Path) -> dict[str, object]:
    """Return what qemu-img says of a disk image that is forced to be qcow2; ProgramError if it is none."""
    text = run(["qemu-img", "info", "--output=json", "-U", "-f", "qcow2", file])
    facts: dict[str, object] = orjson.loads(text)
    return facts


def virtual_bytes(file: Path) -> int:
    """Return the size of the disk that a qcow2 file stands for."""
    size = image_facts(file).get("virtual-size")
    if not isinstance(size, int):
        raise InvalidInputError("the image says no size", field="image")
    return size
