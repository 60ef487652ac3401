"""The gateway as a process of its own, which outlives a crash of the control plane and is adopted by the next."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import structlog

from penstock.base.errors import StartupError
from penstock.up.server import bind

log = structlog.get_logger(__name__)
READY_SECONDS = 20.0
STOP_SECONDS = 35.0
_POLL_SECONDS = 0.02


class GatewayProcess:
    """Starts, adopts, restarts and stops the gateway of this factory.

    ``engine_tls`` are the files of the certificate it shows to agents' relays and of the authority it trusts.
    """

    def __init__(
        self, listen: str, control_plane_url: str, token_file: Path, data: Path, engine_tls: tuple[Path, Path]
    ) -> None:
        self._listen = listen
        self._data = data
        self._pid_file = data / "gateway.pid"
        self._command = [
            *(
                sys.executable,
                "-P",
                "-m",
                "penstock",
                "gateway",
            ),  # -P: whatever lies in the working folder is not us
            *("--listen", listen),
            *("--control-plane", control_plane_url),
            *("--token-file", str(token_file)),
            *("--data", str(data)),
            *("--engine-certificate", str(engine_tls[0]), "--engine-authority", str(engine_tls[1])),
            *("--pid-file", str(self._pid_file)),
        ]
        self._child: subprocess.Popen[bytes] | None = None
        self.adopted = False

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://{self._listen}"

    def start(self) -> None:
        """Adopt the gateway that a killed control plane left behind, else start one; does not wait for it.

        Raises StartupError if somebody else listens on its port.
        """
        self._data.mkdir(parents=True, exist_ok=True)
        running = self._running()
        if running is not None and running.cmdline()[1:] == self._command[1:]:
            self.adopted = True
            return
        if running is not None:
            _end(running)
        host, _, port = self._listen.rpartition(":")
        bind(host, int(port), "the LLM gateway", "--gateway-port").close()
        with (self._data / "gateway.log").open("ab") as output:
            self._child = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def wait_ready(self) -> None:
        """Wait until it answers; StartupError with its last words if it does not."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self._child is not None and self._child.poll() is not None:
                raise StartupError(f"the gateway ended at once: {self._last_words().splitlines()[-1]}")
            try:
                if httpx.get(f"{self.url}/healthz", timeout=1.0).status_code == 200:
                    return
            except httpx.HTTPError as error:
                log.debug("gateway_not_ready", error=str(error))
            time.sleep(_POLL_SECONDS)
        last = self._last_words().splitlines()[-1]
        raise StartupError(f"the gateway did not answer within {READY_SECONDS:.0f} s: {last}")

    def keep_alive(self) -> None:
        """Start it again if it died; called from the supervising loop."""
        if self._running() is None and (self._child is None or self._child.poll() is not None):
            log.error("gateway_died", last_words=self._last_words())
            self.adopted = False
            try:
                self.start()
            except StartupError as error:
                log.warning("gateway_waits_for_its_port", sentence=error.sentence)

    def stop(self) -> None:
        """Let it drain and stop."""
        running = self._running()
        if running is not None:
            _end(running)
        if self._child is not None:
            self._child.wait(STOP_SECONDS)

    def _running(self) -> psutil.Process | None:
        try:
            process = psutil.Process(int(self._pid_file.read_text().split()[0]))
            is_ours = "gateway" in process.cmdline() and str(self._data) in process.cmdline()
        except (OSError, ValueError, IndexError, psutil.Error):
            return self._child_process()
        return process if is_ours and process.status() != psutil.STATUS_ZOMBIE else self._child_process()

    def _child_process(self) -> psutil.Process | None:
        if self._child is None or self._child.poll() is not None:
            return None
        return psutil.Process(self._child.pid)

    def _last_words(self) -> str:
        file = self._data / "gateway.log"
        if not file.exists():
            return "it left no log"
        with file.open("rb") as log_file:
            log_file.seek(max(0, os.fstat(log_file.fileno()).st_size - 600))
            return log_file.read().decode(errors="replace").strip() or "its log is empty"


def _end(process: psutil.Process) -> None:
    """Ask, wait, then insist."""
    try:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)
    except psutil.TimeoutExpired:
        process.kill()
    except psutil.NoSuchProcess:
        return  # gone already is what we want
