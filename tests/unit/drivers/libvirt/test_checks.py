"""Checks of a host of machines: a libvirtd that does not answer."""

from pathlib import Path

import pytest

from penstock.base.clock import SystemClock
from penstock.drivers.base import CheckState
from penstock.drivers.libvirt import binding
from penstock.drivers.libvirt.checks import libvirtd
from penstock.drivers.libvirt.hypervisor import Hypervisor


@pytest.mark.skipif(not binding.is_available(), reason=binding.MISSING)
def test_a_libvirtd_that_does_not_answer_is_bad(tmp_path: Path) -> None:
    found = libvirtd(Hypervisor(f"qemu:///system?socket={tmp_path}/none"), SystemClock())
    assert (found.name, found.state, "does not answer" in found.message) == ("libvirtd", CheckState.BAD, True)
