"""Checks of a host of machines: a libvirtd that does not answer, a QEMU that may do too much."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from penstock.base.clock import SystemClock
from penstock.drivers.base import CheckState
from penstock.drivers.libvirt import binding
from penstock.drivers.libvirt.checks import libvirtd, qemu, uid_of
from penstock.drivers.libvirt.hypervisor import Hypervisor


@pytest.mark.skipif(not binding.is_available(), reason=binding.MISSING)
def test_a_libvirtd_that_does_not_answer_is_bad(tmp_path: Path) -> None:
    found = libvirtd(Hypervisor(f"qemu:///system?socket={tmp_path}/none"), SystemClock())
    assert (found.name, found.state, "does not answer" in found.message) == ("libvirtd", CheckState.BAD, True)
    assert qemu(Hypervisor(f"qemu:///system?socket={tmp_path}/none"), []) == [], "said once is enough"


class _Says(Hypervisor):
    """A libvirt that runs QEMU as a user."""

    def __init__(self, uid: int | None) -> None:
        super().__init__("test")
        model = f"<model>dac</model><baselabel type='kvm'>+{uid}:+109</baselabel>"
        found = "" if uid is None else f"<secmodel>{model}</secmodel>"
        self.words = (
            f"<capabilities><host><secmodel><model>apparmor</model></secmodel>{found}</host></capabilities>"
        )

    @contextmanager
    def speaking(self) -> Generator["_Says"]:
        yield self

    def getCapabilities(self) -> str:  # noqa: N802 - libvirt's name
        return self.words


def _process(
    proc: Path, pid: int, name: str, *, uid: int = 64055, seccomp: int = 2, comm: str = "qemu-system-x86"
) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "comm").write_text(f"{comm}\n")
    (folder / "cmdline").write_bytes(
        b"\0".join([b"/usr/bin/qemu", b"-name", f"guest={name},debug-threads=on".encode(), b""])
    )
    ids = f"{uid}\t{uid}\t{uid}\t{uid}"
    (folder / "status").write_text(
        f"Name:\tqemu\nUid:\t{ids}\nGid:\t{ids}\nNoNewPrivs:\t1\nSeccomp:\t{seccomp}\n"
    )


@pytest.mark.parametrize(
    ("uid", "process", "state", "said"),
    [
        (64055, {}, CheckState.OK, "QEMU runs as user 64055, 1 machines behind seccomp"),
        (None, {}, CheckState.OK, "QEMU runs as the agent's user"),
        (0, {"uid": 0}, CheckState.WARNING, "libvirt starts QEMU as root"),
        (64055, {"uid": 0}, CheckState.WARNING, "1 machines run as root since before"),
        (64055, {"seccomp": 0}, CheckState.WARNING, "1 machines run without seccomp"),
    ],
    ids=["fine", "session", "root", "root before", "no filter"],
)
def test_a_qemu_that_may_do_too_much_is_warned_of(
    tmp_path: Path, uid: int | None, process: dict[str, int], state: CheckState, said: str
) -> None:
    _process(tmp_path, 11, "alc_1", **process)
    _process(tmp_path, 12, "somebody-elses", uid=0, seccomp=0)
    _process(tmp_path, 13, "alc_1", uid=0, comm="virtlogd")
    (tmp_path / "14").mkdir()  # it ended meanwhile
    (tmp_path / "self").mkdir()
    (found,) = qemu(_Says(uid), ["alc_1", "alc_off"], tmp_path)
    assert (found.name, found.state) == ("qemu", state)
    assert said in found.message


def test_who_qemu_runs_as_is_what_libvirt_says() -> None:
    assert uid_of(_Says(7).words) == 7
    assert uid_of("<capabilities><host/></capabilities>") is None
