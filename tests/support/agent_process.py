"""The agent of a hypervisor host: a process that may be killed and started again, in the host's own network if asked."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.support.hypervisors import Host, open_way
from tests.support.threshold import threshold


class AgentProcess:
    """``inside``: it sees the host's network, so that it carries tenants' networks there; the factory is let in."""

    def __init__(self, folder: Path, host: Host, *, inside: bool = False) -> None:
        folder.mkdir(exist_ok=True)
        open_way(folder)
        self.state, self.log, self.host = folder / "agent", folder / "agent.log", host
        self.process: subprocess.Popen[bytes] | None = None
        self._inside = inside
        self._open = ExitStack()

    def start(self, *arguments: str, token: str = "") -> None:
        """Start ``penstock agent ARGUMENTS``."""
        command = [sys.executable, "-m", "penstock", "agent", *arguments, "--state-dir", str(self.state)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.host.enter_network(*command) if self._inside else command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PENSTOCK_JOIN_TOKEN": token},
            )

    def join(self, url: str, token: str) -> None:
        """Join the factory and run."""
        self.let_in(url)
        self.start(
            *("join", "--url", url, "--name", self.host.name, "--libvirt", self.host.uri),
            *("--libvirt-arrivals", self.host.arrivals, "--acceleration", "tcg"),
            token=token,
        )

    def let_in(self, url: str) -> None:
        """Let the agent reach the factory, if it sees its host's network only."""
        if self._inside:
            self._open.enter_context(threshold(self.host.network, int(url.rpartition(":")[2])))

    def end(self, number: int) -> None:
        """Send a signal and wait until the process is gone."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(60)

    def close(self) -> None:
        """Let the factory in no longer."""
        self._open.close()
