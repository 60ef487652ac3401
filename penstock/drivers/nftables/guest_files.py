"""What a host keeps for guests to read: files that only root reads, each replaced as a whole or not at all.

User data stands in a file of its own for each port, named by its device, beside what else is kept of the port's network,
and goes with it. It is in no config of a network, since whoever reads such a config has no business with a guest's secrets.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from penstock.base import limits

_USER_DATA = ".user-data"


def write(file: Path, content: bytes) -> None:
    """Make this the content of a file; nothing is touched if it is that already."""
    if file.exists() and file.read_bytes() == content:
        return
    draft = file.with_name(f"{file.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
    draft.replace(file)


def put_user_data(folder: Path, taps: Collection[str], by_tap: Mapping[str, bytes] | None) -> None:
    """Keep user data for these devices of a network and for no other one; ``None``: nothing is known of it yet.

    While nothing is known, what is there of these devices stays.
    """
    if not folder.exists():
        return  # the network is made anew soon, and this with it
    kept = {f"{tap}{_USER_DATA}" for tap in taps if by_tap is None or tap in by_tap}
    for file in folder.glob(f"*{_USER_DATA}*"):
        if file.name not in kept:
            file.unlink(missing_ok=True)
    known = by_tap or {}
    for tap in taps:
        if tap in known:
            write(folder / f"{tap}{_USER_DATA}", known[tap])


def user_data(folder: Path, tap: str) -> bytes | None:
    """Return what the guest behind a device may read, byte for byte; None if there is nothing."""
    try:
        with (folder / f"{tap}{_USER_DATA}").open("rb") as handle:
            return handle.read(limits.USER_DATA_BYTES_MAX)
    except FileNotFoundError:
        return None
