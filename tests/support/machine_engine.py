"""The engine of a factory and the listener of its agents as a process of their own, which may be killed at any instant.

``python -m tests.support.machine_engine DATABASE_URL FOLDER PORT``; the API that tests speak to is elsewhere.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from penstock.api.agent_listener import serve_agents
from penstock.base.clock import SystemClock
from penstock.control_plane import ControlPlane
from penstock.drivers.pki.authority import FactoryCa


def prepared(url: str, folder: Path) -> ControlPlane:
    """Return a control plane over the files of a factory in ``folder``."""
    plane = ControlPlane(url, SystemClock(), connections=8)
    plane.context.vault.load(folder / "secrets.key")
    plane.sign_with(folder / "keys" / "proof-signing.pem", owner=True)
    plane.keep_images_in(folder / "images")
    return plane


class Engine:
    """Such a process, at a port that stays."""

    def __init__(self, url: str, folder: Path, port: int) -> None:
        self._arguments = [url, str(folder), str(port)]
        self.log = folder / "engine.log"
        self.url = f"https://127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; agents ask until it answers."""
        command = [sys.executable, "-m", "tests.support.machine_engine", *self._arguments]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ
            )

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)


def main() -> None:
    """Run until killed."""
    url, folder, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    plane = prepared(url, folder)
    plane.start_loops(alone=True)
    serve_agents(plane, FactoryCa(folder / "pki", plane.clock), "127.0.0.1", port)
    signal.pause()


if __name__ == "__main__":
    main()
