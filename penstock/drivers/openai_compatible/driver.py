"""The driver of endpoints that are somewhere else: it remembers what was promised and looks whether it is kept.

Looking takes a network and so runs in a thread; a call answers with what the last look found. A peer that was
there and is silent for ``FAILURES_MAX`` looks is STARTED again, so that nobody is sent to it, until it answers.

Codes of failures: ``peer_refused`` (the secret is not accepted), ``peer_not_permitted`` (the address is of a network
that tenants must not reach), ``peer_broken`` (no server of OpenAI's API), ``secret_missing``; all until another order.
They end an order that never served; an endpoint that did waits, and says what is wrong.
"""

import json
import re
import shutil
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from penstock.base.addresses import Network
from penstock.base.clock import Clock, to_epoch_us
from penstock.base.errors import InvalidInputError
from penstock.drivers.base import Capabilities, Config, Inventory, Observed, Phase, Wanted
from penstock.drivers.openai_compatible.config import PeerConfig, allowed_networks
from penstock.drivers.openai_compatible.peer import SERVES, Verdict, look

READY_INTERVAL_SECONDS = 15.0
WAITING_INTERVAL_SECONDS = 1.0
FAILURES_MAX = 3
_WAIT_SECONDS = 0.02
_ALLOCATION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")

SecretOf = Callable[[str], str | None]  # by allocation: whose secret a name means is not the driver's to know


@dataclass(slots=True)
class _Watch:
    """What is remembered of one peer; lost without harm."""

    allocation_id: str
    config: Config
    looked_at: float = float("-inf")
    thread: threading.Thread | None = None
    verdict: Verdict | None = None
    failures: int = 0
    done: threading.Event = field(default_factory=threading.Event)


class OpenAICompatibleDriver:
    """Servers of OpenAI's API that somebody else runs."""

    name: ClassVar[str] = "openai_compatible"
    simulated: ClassVar[bool] = False

    def __init__(
        self,
        state_dir: Path,
        clock: Clock,
        secret_of: SecretOf,
        *,
        allowed: Iterable[Network] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._folder = state_dir
        self._clock = clock
        self._secret_of = secret_of
        self._allowed = allowed_networks() if allowed is None else tuple(allowed)
        self._context = context
        self._watches: dict[str, _Watch] = {}
        self._lock = threading.Lock()

    def validate(self, config: Config) -> None:
        """Raise InvalidInputError naming the field if ``config`` cannot work; asks nobody."""
        PeerConfig.parse(config)

    def inventory(self) -> Inventory:
        """Report nothing: what runs elsewhere is on nobody's node."""
        return Inventory()

    def capabilities(self) -> Capabilities:
        """Carry kind ``llm_external``."""
        return Capabilities(kinds=frozenset({"llm_external"}), simulated=False)

    def ensure(self, wanted: Wanted) -> Observed:
        """Remember the promise, and say what the last look at the peer found."""
        PeerConfig.parse(wanted.config)
        known = self._read(wanted.allocation_id)
        if known is not None and wanted.generation < known["generation"]:
            return self._report(wanted.allocation_id, known)  # a late call must not go back
        if known is None or known["config"] != dict(wanted.config):
            started_us = to_epoch_us(self._clock.now())
            begun: dict[str, Any] = {"started": started_us}
            known = dict[str, Any](generation=0, config=dict(wanted.config), at_us=begun)
            self._forget(wanted.allocation_id)
        elif wanted.generation > known["generation"]:
            self._forget(wanted.allocation_id)  # a new try
        if known["generation"] != wanted.generation:
            known["generation"] = wanted.generation
            self._write(wanted.allocation_id, known)
        verdict = self._verdict(wanted.allocation_id, known, _WAIT_SECONDS)
        if verdict is not None and verdict.code is None and "ready" not in known["at_us"]:
            known["at_us"]["ready"] = to_epoch_us(self._clock.now())
            self._write(wanted.allocation_id, known)
        return self._report(wanted.allocation_id, known)

    def observe(self) -> Sequence[Observed]:
        """Report every promise, and what the last look found."""
        try:
            names = sorted(one.name for one in self._folder.iterdir() if _ALLOCATION.match(one.name))
        except FileNotFoundError:
            return []
        read = ((name, self._read(name)) for name in names)
        return [
            self._report(name, known) if known is not None else Observed(name, 0, Phase.PENDING)
            for name, known in read
        ]

    def remove(self, allocation_id: str) -> Observed:
        """Forget the promise; the peer never knew of it."""
        folder = self._of(allocation_id)
        self._forget(allocation_id)
        if folder.exists():
            shutil.rmtree(folder)
        return Observed(allocation_id, 0, Phase.ABSENT)

    # -- looking

    def _report(self, allocation_id: str, known: dict[str, Any]) -> Observed:
        generation, at_us = int(known["generation"]), dict(known["at_us"])
        verdict = self._verdict(allocation_id, known, 0.0)
        if verdict is None or (verdict.code is None and "ready" not in at_us):
            return Observed(allocation_id, generation, Phase.STARTED, at_us, message="asking the server")
        if verdict.code is None:
            return Observed(
                allocation_id, generation, Phase.READY, at_us, PeerConfig.parse(known["config"]).base
            )
        if verdict.lasting and "ready" not in at_us:
            return Observed(
                allocation_id, generation, Phase.FAILED, at_us, code=verdict.code, message=verdict.message
            )
        return Observed(allocation_id, generation, Phase.STARTED, at_us, message=verdict.message)

    def _verdict(self, allocation_id: str, known: dict[str, Any], wait_seconds: float) -> Verdict | None:
        """Begin a look if one is due, wait for it a moment, and return what is known; None: nothing yet."""
        config: Config = known["config"]
        with self._lock:
            watch = self._watches.get(allocation_id)
            if watch is None or watch.config != config:
                watch = self._watches[allocation_id] = _Watch(allocation_id, config)
            good = watch.verdict is not None and watch.verdict.code is None
            interval = READY_INTERVAL_SECONDS if good and not watch.failures else WAITING_INTERVAL_SECONDS
            now = self._clock.monotonic()
            if watch.thread is None and now - watch.looked_at >= interval:
                watch.looked_at = now
                watch.done = threading.Event()
                watch.thread = threading.Thread(target=self._look, args=(watch,), daemon=True)
                watch.thread.start()
            done = watch.done
        if wait_seconds:
            done.wait(wait_seconds)
        with self._lock:
            if watch.verdict is None and "ready" in known["at_us"]:
                return SERVES  # another driver object saw it serve; one look is on its way
            return watch.verdict

    def _look(self, watch: _Watch) -> None:
        try:
            config = PeerConfig.parse(watch.config)
            secret = None if config.secret is None else self._secret_of(watch.allocation_id)
            if config.secret is not None and secret is None:
                verdict = Verdict(
                    "secret_missing", "the secret of this endpoint is gone; order it anew", lasting=True
                )
            else:
                verdict = look(config, secret, self._allowed, self._context)
        except InvalidInputError as error:  # the operator allows less than when it was ordered
            verdict = Verdict("peer_not_permitted", error.sentence, lasting=True)
        except Exception as error:  # noqa: BLE001 - a thread has no caller; what it met is what is reported
            verdict = Verdict("peer_silent", f"the look at the server failed: {type(error).__name__}")
        with self._lock:
            watch.thread = None
            served = watch.verdict is not None and watch.verdict.code is None
            watch.failures = 0 if verdict.code is None else watch.failures + 1
            if not served or verdict.code is None or watch.failures >= FAILURES_MAX:
                watch.verdict = verdict  # a missed look or two do not take an endpoint away
            watch.done.set()

    def _forget(self, allocation_id: str) -> None:
        with self._lock:
            self._watches.pop(allocation_id, None)

    # -- folders

    def _of(self, allocation_id: str) -> Path:
        if _ALLOCATION.match(allocation_id) is None:
            raise InvalidInputError("This is not the id of an allocation.", field="allocation_id")
        return self._folder / allocation_id

    def _read(self, allocation_id: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self._of(allocation_id) / "peer.json").read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return found if {"generation", "config", "at_us"} <= found.keys() else None

    def _write(self, allocation_id: str, known: dict[str, Any]) -> None:
        folder = self._of(allocation_id)
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / "peer.new"  # replaced as a whole, so that a crash leaves the old facts or the new
        draft.write_text(json.dumps(known), "utf-8")
        draft.replace(folder / "peer.json")
