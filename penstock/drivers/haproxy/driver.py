"""The six verbs over HAProxy: an allocation is a load balancer on this host."""

import os
import pwd
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import ClassVar

import orjson

from penstock.base.clock import Clock, to_epoch_us
from penstock.base.errors import UnavailableError
from penstock.drivers.base import Capabilities, Check, Config, Inventory, Json, Observed, Phase, Wanted
from penstock.drivers.haproxy import plug, process
from penstock.drivers.haproxy.config import CERTIFICATES, CONF, EMPTY, STATS, USER, text
from penstock.drivers.haproxy.stats import ask, read
from penstock.drivers.load_balancer.model import CertificateSource, LoadBalancer, parse
from penstock.drivers.nftables import driver as nftables
from penstock.drivers.nftables import host_lock, namespaces
from penstock.drivers.nftables.host_lock import NOBODY, HostLock

RUN_FOLDER = Path("/run/penstock-load-balancers")
_RECORD = "record.json"
_PREFIX = "penstocklb"


def unavailable() -> str | None:
    """Return what this machine lacks to carry load balancers, None if it can."""
    lacks = nftables.unavailable()
    if lacks is not None:
        return lacks
    if process.program() is None:
        return "HAProxy is not installed; Debian's package 'haproxy' is enough"
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return f"there is no user '{USER}' here for HAProxy to run as; Debian's package makes it"
    return None


@dataclass(frozen=True, slots=True)
class _Record:
    """What was done for one allocation; written before anything is made, so that nothing is left unknown."""

    namespace: str
    tap: str
    generation: int = 0
    started_us: int = 0
    ready_us: int | None = None
    loaded: str = ""  # digest of what the process was started with
    versions: dict[str, int] = field(default_factory=dict[str, int])  # of certificates
    owner: str = NOBODY  # the agent that made it
    standby: bool = False  # it has said nothing to anybody yet


class HaproxyDriver:
    """Load balancers on one host: this process's own namespace, or the one in the file ``host``.

    With a ``lock`` it acts only while its agent has the host, and leaves alone what other agents made.
    """

    name: ClassVar[str] = "haproxy"
    simulated: ClassVar[bool] = False

    def __init__(
        self,
        clock: Clock,
        certificates: CertificateSource | None = None,
        *,
        host: Path | None = None,
        run_folder: Path = RUN_FOLDER,
        lock: HostLock | None = None,
    ) -> None:
        self._clock = clock
        self._lock = lock
        self._owner = NOBODY if lock is None else lock.owner
        self._certificates = certificates
        self._host = host
        # Several hosts may live on one machine, each in a namespace; the number tells their things apart.
        self._tag = namespaces.inode(host)
        self._folder = run_folder / str(self._tag)

    def validate(self, config: Config) -> None:
        """Raise InvalidInputError naming the field unless the config is a load balancer."""
        parse(config)

    def inventory(self) -> Inventory:
        """Report nothing: hosts are nodes that another driver reports."""
        return Inventory()

    def capabilities(self) -> Capabilities:
        """Carry load balancers, for real."""
        return Capabilities(kinds=frozenset({"load_balancer"}), simulated=False)

    def ensure(self, wanted: Wanted) -> Observed:
        """Make the load balancer what is wanted; READY once it listens with that, PENDING while its network is not here.

        Raises HostHeldError while another agent has the host.
        """
        balancer = parse(wanted.config)
        self._require()
        folder = self._folder / wanted.allocation_id
        now_us = to_epoch_us(self._clock.now())
        record = self._read(folder)
        if record is None or record.tap != balancer.tap:
            self.remove(wanted.allocation_id)
            record = _Record(f"{_PREFIX}-{self._tag}-{balancer.tap}", balancer.tap, started_us=now_us)
        if record.owner != self._owner or record.generation == 0:
            record = replace(record, owner=self._owner)
            self._write(folder, record)
        if not plug.put(self._host, record.namespace, balancer):
            return Observed(wanted.allocation_id, wanted.generation, Phase.PENDING)
        if record.standby and not balancer.standby:
            plug.speak(record.namespace, balancer)  # at once: what listens there serves already
        record = self._with_certificates(folder, record, balancer)
        record = self._loaded(folder, record, balancer)
        record = replace(record, standby=balancer.standby)
        record = replace(record, generation=wanted.generation, ready_us=record.ready_us or now_us)
        self._write(folder, record)
        return self._observed(folder, wanted.allocation_id, record)

    def observe(self) -> Sequence[Observed]:
        """Report every load balancer of this agent on this host; STARTED says that a part of one is missing."""
        if not self._folder.exists() or self.refused() is not None:
            return []
        return [
            self._observed(self._folder / key, key, record)
            for key, record in self._records().items()
            if record.owner == self._owner
        ]

    def remove(self, allocation_id: str) -> Observed:
        """Take the load balancer off this host; connections that it has end. HostHeldError while another agent has the host."""
        self._require()
        return self._remove(allocation_id)

    def checks(self) -> Sequence[Check]:
        """Say who has this host, and whether load balancers of others are here."""
        return [host_lock.check(self._lock, "load balancers", self.owners())]

    def refused(self) -> str | None:
        """Return who has this host if it is another agent; see ``HoldsHost``."""
        return None if self._lock is None else self._lock.refused()

    def owners(self) -> dict[str, int]:
        """Return how many load balancers are on this host, by the id of the agent that made them."""
        return dict(Counter(one.owner for one in self._records().values()))

    def clear(self, owner: str) -> int:
        """Take every load balancer that ``owner`` made off this host, whoever has it; return how many there were."""
        found = [key for key, record in self._records().items() if record.owner == owner]
        for key in found:
            self._remove(key)
        return len(found)

    def _remove(self, allocation_id: str) -> Observed:
        folder = self._folder / allocation_id
        record = self._read(folder)
        if record is not None:
            process.stop(folder)
            plug.remove(self._host, record.namespace, record.tap)
        rmtree(folder, ignore_errors=True)
        if self._folder.exists() and not any(self._folder.iterdir()):
            self._folder.rmdir()
        return Observed(allocation_id, 0, Phase.ABSENT)

    def leaks(self) -> list[str]:
        """Return what is on this host without a load balancer that it belongs to, by name; for checks."""
        known = {record.namespace for record in self._records().values()}
        ours = [name for name in namespaces.names() if name.startswith(f"{_PREFIX}-{self._tag}-")]
        found = [f"namespace {name}" for name in ours if name not in known]
        if self._folder.exists() and not known:
            found.append(f"folder {self._folder}")
        if not known:
            found += [f"process {pid}" for pid in process.processes(self._folder)]
        return found

    # -- parts

    def _require(self) -> None:
        if self._lock is not None:
            self._lock.require()

    def _with_certificates(self, folder: Path, record: _Record, wanted: LoadBalancer) -> _Record:
        """Fetch what is new of certificates, forget what is not used any more."""
        kept = folder / CERTIFICATES
        kept.mkdir(mode=0o700, exist_ok=True)
        versions: dict[str, int] = {}
        for one in wanted.listeners:
            if one.certificate is None:
                continue
            file = kept / f"{one.certificate}.pem"
            if record.versions.get(one.certificate) != one.version or not file.exists():
                if self._certificates is None:
                    raise UnavailableError("this agent has no way to ask for certificates")
                _private(file, self._certificates.content(one.certificate))
            versions[one.certificate] = one.version
        for file in kept.glob("*.pem"):
            if file.stem not in versions:
                file.unlink()
        record = replace(record, versions=versions)
        self._write(folder, record)
        return record

    def _loaded(self, folder: Path, record: _Record, wanted: LoadBalancer) -> _Record:
        """See that a process runs with this configuration and these certificates."""
        (folder / EMPTY).mkdir(mode=0o755, exist_ok=True)
        content = text(wanted, folder)
        digest = sha256(content.encode())
        for file in sorted((folder / CERTIFICATES).glob("*.pem")):
            digest.update(file.name.encode() + file.read_bytes())
        loaded = digest.hexdigest()
        if process.running(folder) is not None and not process.answers(folder):
            process.stop(folder)  # it hangs: what it still had is lost anyway
        elif record.loaded == loaded and process.running(folder) is not None:
            return record
        draft = folder / f"{CONF}.new"
        _private(draft, content.encode())
        process.check(folder, draft)
        draft.replace(folder / CONF)
        process.start(folder, namespaces.path_of(record.namespace))
        return replace(record, loaded=loaded)

    def _observed(self, folder: Path, allocation_id: str, record: _Record) -> Observed:
        at_us = {"started": record.started_us, "ready": record.ready_us or record.started_us}
        pid = process.running(folder)
        if record.ready_us is None or pid is None or not self._is_whole(record):
            return Observed(allocation_id, record.generation, Phase.STARTED, at_us=at_us)
        try:
            if record.standby:
                return Observed(allocation_id, record.generation, Phase.READY, at_us=at_us)
            said = read(ask(folder / STATS, "show stat"))
        except UnavailableError:
            return Observed(allocation_id, record.generation, Phase.STARTED, at_us=at_us)
        detail: dict[str, Json] = {
            "health": {key: list(words) for key, words in said.members.items()},
            "meters": {
                "run": pid,
                "sessions": said.sessions,
                "received_bytes": said.received_bytes,
                "sent_bytes": said.sent_bytes,
                "open_sessions": said.open_sessions,
            },
        }
        return Observed(allocation_id, record.generation, Phase.READY, at_us=at_us, detail=detail)

    def _is_whole(self, record: _Record) -> bool:
        return plug.is_whole(self._host, record.namespace, record.tap)

    # -- memory

    def _records(self) -> dict[str, _Record]:
        """Return what was done for every load balancer here, whoever made it, by allocation."""
        files = sorted(self._folder.glob(f"*/{_RECORD}"))
        read_records = {file.parent.name: self._read(file.parent) for file in files}
        return {key: record for key, record in read_records.items() if record is not None}

    def _read(self, folder: Path) -> _Record | None:
        try:
            return _Record(**orjson.loads((folder / _RECORD).read_bytes()))
        except FileNotFoundError:
            return None

    def _write(self, folder: Path, record: _Record) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _private(folder / _RECORD, orjson.dumps(asdict(record)))


def _private(file: Path, content: bytes) -> None:
    """Replace a file as a whole by one that only its owner reads."""
    draft = file.with_name(f".{file.name}.new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    draft.replace(file)
