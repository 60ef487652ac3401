"""The programs of QEMU and of ISO images that the driver runs: always by argument list, always with a time limit.

A foreign image is a stranger's program for whoever parses it: what reads one has, besides, a limit of memory and of
processor time, can get no privileges and is told nothing of this process's environment.
"""

import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import orjson

from penstock.base import limits
from penstock.base.errors import InvalidInputError, PenstockError, UnavailableError

_PACKAGES = {
    "qemu-img": "qemu-utils",
    "genisoimage": "genisoimage",
    "prlimit": "util-linux",
    "setpriv": "util-linux",
    "nsenter": "util-linux",
}
_ENVIRONMENT = {"LC_ALL": "C"}
_SHORT_OF_MEMORY = ("cannot allocate memory", "failed to allocate", "could not allocate")
_ENDED_BY_MEMORY = (signal.SIGABRT, signal.SIGTRAP, signal.SIGSEGV)  # GLib and pthreads end so without memory
_ENDED_BY_TIME = (signal.SIGXCPU, signal.SIGKILL)
_SAID_MAX = 300
_LOOK_SECONDS = 0.2


class ProgramError(PenstockError):
    """A program refused its work; the sentence ends with what it said."""

    code = "program_failed"
    status = 500


def run(arguments: Sequence[str | Path], *, seconds: float = limits.VM_PROGRAM_SECONDS) -> str:
    """Run a program and return what it printed; what it makes is its user's alone.

    UnavailableError if it is not installed, ProgramError if it fails.
    """
    name = str(arguments[0])
    done = _done([_found(name), *map(str, arguments[1:])], name, seconds)
    if done.returncode != 0:
        raise ProgramError(f"'{name}' failed: {_said(done) or done.returncode}")
    return done.stdout.decode("utf-8", "replace")


def run_while(going: Callable[[], None], arguments: Sequence[str | Path]) -> None:
    """Run a program for as long as ``going``, asked again and again, raises nothing; what that raises ends the program.

    UnavailableError if it is not installed, ProgramError if it fails.
    """
    name = str(arguments[0])
    process = subprocess.Popen(  # noqa: S603 - a program of our choice with a list of arguments, no shell
        [_found(name), *map(str, arguments[1:])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        umask=0o077,
    )
    with process:
        try:
            said = _last_words(process, going)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        words = said.decode("utf-8", "replace").strip()[:_SAID_MAX]
        raise ProgramError(f"'{name}' failed: {words or process.returncode}")


def _last_words(process: subprocess.Popen[bytes], going: Callable[[], None]) -> bytes:
    while True:
        try:
            return process.communicate(timeout=_LOOK_SECONDS)[1]
        except subprocess.TimeoutExpired:
            going()


def judge(arguments: Sequence[str | Path]) -> str:
    """Run a program on a foreign image, within ``limits.VM_JUDGE_*``, and return what it printed.

    UnavailableError if it is not installed; ProgramError if it fails, the sentence says which limit stopped it.
    """
    name = str(arguments[0])
    memory, cpu_seconds = limits.VM_JUDGE_MEMORY_BYTES, limits.VM_JUDGE_CPU_SECONDS
    # Not preexec_fn, which may deadlock in a process with threads; and limits hold before the program's first step.
    bounded = [
        _found("prlimit"),
        f"--as={memory}",
        f"--cpu={cpu_seconds}:{cpu_seconds + 1}",
        "--core=0",
        "--",
    ]
    bounded += [_found("setpriv"), "--no-new-privs", "--", _found(name), *map(str, arguments[1:])]
    done = _done(bounded, name, limits.VM_JUDGE_SECONDS, _ENVIRONMENT)
    if done.returncode == 0:
        return done.stdout.decode("utf-8", "replace")
    said = _said(done)
    if -done.returncode in _ENDED_BY_TIME:
        raise ProgramError(f"'{name}' was stopped: reading it takes more than {cpu_seconds} s of a processor")
    if -done.returncode in _ENDED_BY_MEMORY or any(word in said.lower() for word in _SHORT_OF_MEMORY):
        raise ProgramError(f"'{name}' was stopped: reading it takes more than {memory >> 20} MiB of memory")
    raise ProgramError(f"'{name}' failed: {said or done.returncode}")


def _found(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise UnavailableError(f"'{name}' is not on this machine: install {_PACKAGES.get(name, name)}")
    return found


def _done(
    command: Sequence[str], name: str, seconds: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603 - a program of our choice with a list of arguments, no shell
            command,
            capture_output=True,
            check=False,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            env=environment,
            umask=0o077,
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"'{name}' did not end within {seconds:.0f} s") from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode("utf-8", "replace").strip()[:_SAID_MAX]


def image_facts(file: Path) -> dict[str, object]:
    """Return what qemu-img says of a disk image that is forced to be qcow2; ProgramError if it is none."""
    facts: dict[str, object] = orjson.loads(
        judge(["qemu-img", "info", "--output=json", "-U", "-f", "qcow2", file])
    )
    return facts


def check_image(file: Path) -> None:
    """Let qemu-img look whether a qcow2 file is whole; ProgramError if not, or if it takes more than is allowed."""
    judge(["qemu-img", "check", "-q", "-f", "qcow2", file])


def virtual_bytes(file: Path) -> int:
    """Return the size of the disk that a qcow2 file stands for."""
    size = image_facts(file).get("virtual-size")
    if not isinstance(size, int):
        raise InvalidInputError("the image says no size", field="image")
    return size
