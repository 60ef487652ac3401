"""A part of a factory as a process of its own, over a database that others have too."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import waiting

SECONDS = 60.0
_MAIN = "import runpy; runpy.run_module('penstock', run_name='__main__')"


class Replica:
    """One `penstock serve` process; ``before`` is Python that it runs first."""

    def __init__(self, folder: Path, database_url: str, *arguments: str, before: str = "") -> None:
        self.log = folder / f"{'-'.join(arguments)}.log"
        start = ["-c", f"{before}\n{_MAIN}"] if before else ["-m", "penstock"]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *start, "serve", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PENSTOCK_DATABASE_URL": database_url, "PYTHONFAULTHANDLER": "1"},
            )

    def said(self, pattern: str) -> str:
        """Wait until the log has it; return the match."""
        return until(pattern, lambda: re.search(pattern, self.log.read_text()), self).group(0)

    def end(self) -> int:
        """Ask it to end and return its exit status; what it said is printed if that is not 0."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        if status:
            print(self.log.read_text()[-6000:])  # noqa: T201 - pytest shows it with the failure
        return status


def until(what: str, true: Callable[[], Any], *replicas: Replica) -> Any:
    """Wait until ``true`` says so; a failure shows what the replicas said."""

    def said() -> str:
        return "\n".join([what, *(replica.log.read_text()[-1500:] for replica in replicas)])

    return waiting.until(true, said, SECONDS)
