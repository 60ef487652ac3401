"""What was wanted last, on disk: a restarted agent goes on with it while the control plane is away."""

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import orjson
import structlog

from penstock.agent.link import Item

log = structlog.get_logger(__name__)


class DesiredFile:
    """One JSON file, replaced as a whole."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> list[Item]:
        """Return the items; none if the file is absent or cannot be read as what it should be."""
        try:
            return [Item(**row) for row in orjson.loads(self._file.read_bytes())]
        except FileNotFoundError:
            return []
        except (orjson.JSONDecodeError, TypeError) as error:
            log.warning("desired_state_unreadable", file=str(self._file), error=str(error))
            return []

    def write(self, items: Iterable[Item]) -> None:
        """Replace the content; raises OSError if the disk is full, and the old content stays."""
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = self._file.with_suffix(".new")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(orjson.dumps([asdict(item) for item in items]))
        partial.replace(self._file)
