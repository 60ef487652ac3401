"""A real NFS server in user space (nfs-ganesha, NFS 4.1 over a folder of this machine) that tests kill and bring back."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import until

START_SECONDS = 30.0
_CONFIG = """\
NFS_CORE_PARAM {{ Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; }}
# A short grace: nobody else comes back after a restart. A short lease would cost a busy client its locks, and a guest its disk.
NFSV4 {{ Lease_Lifetime = 60; Grace_Period = 10; RecoveryRoot = {folder}; RecoveryBackend = fs; Only_Numeric_Owners = true; }}
NFS_KRB5 {{ Active_krb5 = false; }}
EXPORT {{ Export_Id = 1; Path = {export}; Pseudo = /volumes; Access_Type = RW; Squash = No_Root_Squash; SecType = sys;
    Protocols = 4; FSAL {{ Name = VFS; }} }}
LOG {{ Default_Log_Level = EVENT; }}
"""


def missing() -> str | None:
    """Return why no server can run here, as a sentence; None if one can."""
    plugins = list(Path("/usr/lib").glob("*/ganesha/libfsalvfs.so"))
    if shutil.which("ganesha.nfsd") is None or not plugins:
        return "not installed here: nfs-ganesha, nfs-ganesha-vfs"
    return None


@dataclass(slots=True)
class NfsServer:
    """A server of the folder ``export``; ``enter`` makes a command one that runs where its clients are."""

    folder: Path
    enter: Callable[..., Sequence[str]]
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def export(self) -> Path:
        """Return the folder that is served."""
        return self.folder / "export"

    def start(self) -> None:
        """Start the server and wait until it listens."""
        recovery = self.folder / "recovery"
        for one in (self.export, recovery):
            one.mkdir(parents=True, exist_ok=True)
        config = self.folder / "ganesha.conf"
        config.write_text(_CONFIG.format(folder=recovery, export=self.export))
        log, pid = self.folder / "ganesha.log", self.folder / "ganesha.pid"
        command = ["ganesha.nfsd", "-F", "-f", str(config), "-L", str(log), "-p", str(pid)]
        with (self.folder / "ganesha.err").open("ab") as said:
            self.process = subprocess.Popen(self.enter(*command), stdout=said, stderr=said)
        process = self.process

        def up() -> bool:
            assert process.poll() is None, f"the NFS server ended: {log.read_text()[-2_000:]}"
            return ":0801 " in self._listeners()  # 2049

        until(up, lambda: f"the NFS server listens: {log.read_text()[-2_000:]}", START_SECONDS)

    def kill(self) -> None:
        """End the server as a crash would: nothing answers at its port any more."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _listeners(self) -> str:
        read = self.enter("cat", "/proc/net/tcp", "/proc/net/tcp6")
        return subprocess.run(read, capture_output=True, text=True, check=True).stdout
