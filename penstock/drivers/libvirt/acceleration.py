"""Whether guests run on KVM here: decided by starting one, never by looking whether /dev/kvm is there.

A device that opens says little: there are machines where it opens, makes a virtual machine, and no operating system
comes up in it. So two things must hold: the processor offers virtualisation (kernels that stand in for it offer none, and
even get through a boot sector), and ``probe.bin`` (source beside it) gets through firmware, disk, protected and long
mode within a time limit. An operator who knows better says so in the settings.
"""

import re
import subprocess
import tempfile
import threading
from pathlib import Path
from shutil import which

import structlog

from penstock.base import limits
from penstock.drivers.libvirt.settings import Acceleration

log = structlog.get_logger(__name__)
PROBE = Path(__file__).with_name("probe.bin")
_SAYS = b"PENSTOCK-BOOTED"
_FLAGS = re.compile(r"^flags\s*:.*\b(vmx|svm)\b", re.MULTILINE)


class Accelerator:
    """Decides once for the life of the process; ``folder`` takes the probe's output for a moment."""

    def __init__(self, setting: Acceleration, folder: Path, cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
        self._setting = setting
        self._folder = folder
        self._cpuinfo = cpuinfo
        self._lock = threading.Lock()
        self._found: bool | None = None

    def is_on(self) -> bool:
        """Tell whether machines are to be started with KVM."""
        if self._setting is not Acceleration.AUTO:
            return self._setting is Acceleration.KVM
        with self._lock:
            if self._found is None:
                self._found = offers_virtualisation(self._cpuinfo) and boots("kvm", self._folder)
                log.info("acceleration_decided", kvm=self._found)
            return self._found


def offers_virtualisation(cpuinfo: Path) -> bool:
    """Tell whether the processor says that it can run guests."""
    try:
        return _FLAGS.search(cpuinfo.read_text("utf-8", "replace")) is not None
    except OSError:
        return False


def boots(accelerator: str, folder: Path, seconds: float = limits.VM_PROBE_SECONDS) -> bool:
    """Start the probe with an accelerator of QEMU (``kvm``, ``tcg``); tell whether it came through in time."""
    program = which("qemu-system-x86_64")
    if program is None:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-") as said:
        command = [
            program,
            "-accel",
            accelerator,
            "-machine",
            "pc",
            "-m",
            "32",
            "-nodefaults",
            "-no-user-config",
        ]
        command += ["-display", "none", "-no-reboot", "-debugcon", f"file:{said.name}"]
        command += ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
        command += ["-drive", f"file={PROBE},format=raw,if=ide,snapshot=on"]
        try:
            subprocess.run(  # noqa: S603 - a fixed list
                command, capture_output=True, check=False, timeout=seconds, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            return False
        return Path(said.name).read_bytes().startswith(_SAYS)
