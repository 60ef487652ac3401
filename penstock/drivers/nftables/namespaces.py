"""Network namespaces: made, entered by a thread, removed. A file in ``/run/netns`` keeps one alive, as ``ip netns`` has it."""

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Answer = TypeVar("Answer")

FOLDER = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def path_of(name: str) -> Path:
    """Return the file that keeps a namespace alive."""
    return FOLDER / name


def exists(name: str) -> bool:
    """Tell whether there is a namespace of that name; a file alone, left by a reboot, is none."""
    file = path_of(name)
    return file.exists() and file.stat().st_dev != FOLDER.stat().st_dev


def names() -> list[str]:
    """Return the names of all namespaces."""
    return sorted(file.name for file in FOLDER.iterdir()) if FOLDER.exists() else []


def create(name: str) -> None:
    """Make a namespace; nothing if it is there."""
    FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    if exists(name):
        return
    file = path_of(name)
    file.touch(mode=0o444)

    def work() -> None:
        _check(_libc.unshare(_CLONE_NEWNET), "unshare")
        source = f"/proc/self/task/{threading.get_native_id()}/ns/net".encode()
        _check(_libc.mount(source, str(file).encode(), b"none", _MS_BIND, None), "mount")

    _in_thread(work)


def remove(name: str) -> None:
    """Remove a namespace with every device in it; nothing if it is gone."""
    file = path_of(name)
    if not file.exists():
        return
    if exists(name):
        _check(_libc.umount2(str(file).encode(), _MNT_DETACH), "umount")
    file.unlink(missing_ok=True)


def inode(namespace: Path | None) -> int:
    """Return the number by which the kernel tells a namespace from others; None: the one of this process."""
    return (namespace or Path("/proc/self/ns/net")).stat().st_ino


def inside(namespace: Path | None, work: Callable[[], Answer]) -> Answer:
    """Run ``work`` in a namespace and return what it returns; None: where this process is.

    Sockets and processes that it opens stay in that namespace. Raises what ``work`` raises, OSError if the namespace
    is gone.
    """
    if namespace is None:
        return work()

    def entered() -> Answer:
        handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(handle, _CLONE_NEWNET), "setns")
        finally:
            os.close(handle)
        return work()

    return _in_thread(entered)


def _in_thread(work: Callable[[], Answer]) -> Answer:
    """Run ``work`` in a thread that ends with it: which namespace a thread is in dies with the thread."""
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="in-namespace", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return answers[0]


def _check(answer: int, what: str) -> None:
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
