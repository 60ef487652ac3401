"""How well this agent's host is, told a few times a minute. Looking happens beside the agent's other work: it may hang."""

import threading
from collections.abc import Mapping, Sequence

import structlog

from penstock.agent.link import Link
from penstock.base import limits
from penstock.base.clock import Clock, to_epoch_us
from penstock.base.errors import PenstockError, UnauthenticatedError
from penstock.drivers.base import Check, ChecksHost, CheckState

log = structlog.get_logger(__name__)


class _Look:
    """One look at one source, in a thread of its own."""

    def __init__(self, name: str, source: ChecksHost) -> None:
        self._name = name
        self._source = source
        self._found: Sequence[Check] | None = None
        self._thread = threading.Thread(target=self._run, name=f"checks-{name}", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def found(self) -> Sequence[Check]:
        """Return what was found, or that nothing was in time."""
        if self._found is not None:
            return self._found
        seconds = limits.HOST_CHECK_PATIENCE_SECONDS
        return [Check(self._name, CheckState.BAD, f"it could not be looked at within {seconds:.0f} s")]

    def _run(self) -> None:
        try:
            self._found = self._source.checks()
        except Exception as error:
            log.exception("checks_failed", of=self._name)
            self._found = [Check(self._name, CheckState.BAD, f"it could not be looked at: {error}"[:500])]


class HostReport:
    """Speaks for drivers and the machine itself, by name; a report that fails is made again at the next turn."""

    def __init__(self, sources: Mapping[str, object], clock: Clock) -> None:
        self._sources = {name: one for name, one in sources.items() if isinstance(one, ChecksHost)}
        self._clock = clock
        self._looks: dict[str, _Look] = {}
        self._hanging: dict[str, _Look] = {}
        self._began_at = 0.0
        self._look_at = clock.monotonic()

    def send(self, link: Link) -> None:
        """Begin to look, or tell what was found, if it is time for either; raises UnauthenticatedError."""
        now = self._clock.monotonic()
        if self._sources and not self._looks and now >= self._look_at:
            self._began_at, self._look_at = now, now + limits.HOST_CHECK_SECONDS
            # One that still hangs is not looked at once more, or threads would pile up behind a dead file server.
            self._looks = {
                name: self._hanging.pop(name) if name in self._hanging else _Look(name, source)
                for name, source in self._sources.items()
            }
            return
        waits = now - self._began_at < limits.HOST_CHECK_PATIENCE_SECONDS
        if not self._looks or (waits and not all(look.is_over for look in self._looks.values())):
            return
        found = [check for look in self._looks.values() for check in look.found()]
        self._hanging = {name: look for name, look in self._looks.items() if not look.is_over}
        self._looks = {}
        try:
            link.push_checks(found[: limits.HOST_CHECKS_MAX], to_epoch_us(self._clock.now()))
        except UnauthenticatedError:
            raise
        except (PenstockError, OSError) as error:
            log.warning("checks_not_reported", error=str(error))
