"""KVM is used where guests run on it; that a device opens says nothing."""

import shutil
from pathlib import Path

import pytest

from penstock.drivers.libvirt.acceleration import Accelerator, boots, offers_virtualisation
from penstock.drivers.libvirt.settings import Acceleration

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed here"
)


@pytest.mark.parametrize(
    ("flags", "offers"), [("fpu vmx sse", True), ("fpu svm", True), ("fpu sse vmxoff", False), ("", False)]
)
def test_the_processor_says_whether_it_runs_guests(tmp_path: Path, flags: str, *, offers: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: vmx\n")
    assert offers_virtualisation(cpuinfo) is offers
    assert not offers_virtualisation(tmp_path / "nothing")


def test_a_setting_is_taken_at_its_word(tmp_path: Path) -> None:
    assert Accelerator(Acceleration.KVM, tmp_path).is_on()
    assert not Accelerator(Acceleration.TCG, tmp_path).is_on()


def test_without_virtualisation_nothing_is_even_tried(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : fpu\n")
    assert not Accelerator(Acceleration.AUTO, tmp_path / "made", cpuinfo).is_on()
    assert not (tmp_path / "made").exists()


@needs_qemu
@pytest.mark.vm
def test_the_probe_boots_in_software(tmp_path: Path) -> None:
    assert boots("tcg", tmp_path, seconds=60)
    assert list(tmp_path.iterdir()) == []


@needs_qemu
@pytest.mark.vm
def test_what_does_not_come_up_in_time_does_not_count(tmp_path: Path) -> None:
    assert not boots("tcg", tmp_path, seconds=0.01)
    assert not boots("no-such-accelerator", tmp_path, seconds=60)
