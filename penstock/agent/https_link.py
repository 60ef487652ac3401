"""The link of an agent that lives elsewhere: long polls over HTTPS, each side known by its certificate.

Wishes and reports need no way in, so an agent may stand behind address translation; only its relay, for tokens, is
called. Its certificate is renewed at half of its life over the link itself, and at the start if it was made
before relays were, without the name that one answers to.
"""

import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta

import httpx
import orjson
import structlog

from penstock.agent import http
from penstock.agent.identity import IdentityFolder
from penstock.agent.link import Item, Pulled
from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import InvalidInputError, PenstockError, TooLargeError
from penstock.domain.host_log import LogLine
from penstock.domain.weights import Copy
from penstock.drivers import wire, wire_check, wire_log, wire_traffic
from penstock.drivers.base import Check, NodeFacts, Observed, Reading, Traffic, Typed
from penstock.drivers.pki import certificates

log = structlog.get_logger(__name__)

RENEW_RETRY_SECONDS = 60.0
# A little less than what the control plane takes in one body, for the envelope around it.
PUSH_BYTES_MAX = limits.BODY_BYTES_MAX - 4_096


class HttpsLink:
    """Speaks for the agent whose identity is in ``folder``; one thread pulls, others may report meanwhile.

    ``serve_host`` is where its relay is reached, None without one.
    """

    def __init__(self, folder: IdentityFolder, clock: Clock, serve_host: str | None = None) -> None:
        self._folder = folder
        self._clock = clock
        self.identity = folder.load()
        self._serve_host = serve_host
        self._client: httpx.Client | None = None
        self._retired: httpx.Client | None = (
            None  # with the certificate before; a report may still be on its way
        )
        self._making = threading.Lock()
        self._is_nameless = not folder.answers_for(self.identity.agent_id)
        self._renew_again_at = clock.monotonic()

    def enroll(self, nodes: Sequence[NodeFacts], drivers: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Report what this agent found, with the drivers that can drive each node; return node ids by name."""
        found = wire.Enrolment(self.identity.site, nodes, drivers, self._serve_host)
        body = wire.enrolment_to_json(found)
        return wire.enrolled_from_json(self._call("POST", "/v1/agents/self/enroll", body))

    def pull(self, after: int, wait_seconds: float) -> Pulled:
        """Return wishes changed since ``after`` (0: all), waiting up to ``wait_seconds`` for one."""
        self._renew_when_due()
        wait = min(max(wait_seconds, 0.0), limits.AGENT_LONG_POLL_SECONDS)
        answer = http.call(
            self._http(),
            "GET",
            "/v1/agents/self/allocations",
            wait_seconds=wait,
            query={"after": str(after), "wait_seconds": f"{wait:.3f}"},
        )
        wishes = wire.wishes_from_json(answer)
        items = [
            Item(wish.allocation_id, wish.node, wish.driver, wish.generation, wish.wanted, wish.config)
            for wish in wishes.items
        ]
        return Pulled(wishes.full, wishes.cursor, items, wishes.typing)

    def push(self, observations: Sequence[Observed], silent_nodes: Sequence[str]) -> None:
        """Report. What is too much for one body goes in several; a report that is refused for itself is dropped."""
        body = wire.reports_to_json(observations, silent_nodes)
        if len(observations) > 1 and len(orjson.dumps(body)) > PUSH_BYTES_MAX:
            self._push_halves(observations, silent_nodes)
            return
        try:
            self._call("POST", "/v1/agents/self/observations", body)
        except (InvalidInputError, TooLargeError) as error:
            # One report that the control plane cannot read must not keep the others from being heard.
            if len(observations) > 1:
                self._push_halves(observations, silent_nodes)
                return
            if not observations:
                raise
            log.error("report_refused", allocation=observations[0].allocation_id, error=error.sentence)  # noqa: TRY400 - the sentence says it all

    def push_console(self, allocation_id: str, begin: int, content: bytes) -> int:
        """Send a piece of a machine's console; return the offset to go on from."""
        body = wire.console_to_json(allocation_id, begin, content)
        return wire.console_answer_from_json(self._call("POST", "/v1/agents/self/consoles", body))

    def pull_typed(self, taken: Mapping[str, int], wait_seconds: float) -> Sequence[Typed]:
        """Ask for keys."""
        answer = http.call(
            self._http(),
            "POST",
            "/v1/agents/self/keys",
            wire.taken_to_json(taken, wait_seconds),
            wait_seconds=wait_seconds,
        )
        return wire.typed_from_json(answer)

    def push_power(self, states: Mapping[str, str]) -> Mapping[str, bool]:
        """Say how nodes are powered; return which shall be on or off and are not."""
        body = wire.power_to_json(states)
        return wire.power_wanted_from_json(self._call("POST", "/v1/agents/self/power", body))

    def push_readings(self, readings: Sequence[Reading]) -> None:
        """Say what devices measure."""
        self._call("POST", "/v1/agents/self/readings", wire.readings_to_json(readings))

    def push_traffic(self, said: Traffic) -> None:
        """Say what networks carried."""
        self._call("POST", "/v1/agents/self/traffic", wire_traffic.traffic_to_json(said))

    def push_checks(self, checks: Sequence[Check], at_us: int) -> None:
        """Say how well this host is, and what its clock shows."""
        self._call("POST", "/v1/agents/self/checks", wire_check.checks_to_json(checks, at_us))

    def push_log(self, lines: Sequence[LogLine]) -> None:
        """Say what is new in this host's logs."""
        self._call("POST", "/v1/agents/self/log", wire_log.lines_to_json(lines))

    def push_weights(self, copies: Sequence[Copy]) -> Sequence[str]:
        """Say what weights this machine has; return the digests of those it is to give up."""
        body = wire.weights_to_json(copies)
        return wire.unwanted_from_json(self._call("POST", "/v1/agents/self/weights", body))

    def close(self) -> None:
        """Close the connections."""
        with self._making:
            for client in (self._client, self._retired):
                if client is not None:
                    client.close()
            self._client = self._retired = None

    def _push_halves(self, observations: Sequence[Observed], silent_nodes: Sequence[str]) -> None:
        half = len(observations) // 2
        self.push(observations[:half], silent_nodes)
        self.push(observations[half:], silent_nodes)

    def _call(self, method: str, path: str, body: object) -> object:
        return http.call(self._http(), method, path, body)

    def _http(self) -> httpx.Client:
        with self._making:
            if self._client is None:
                self._client = http.client(self.identity.url, self._folder.tls())
            return self._client

    def _show_new_certificate(self) -> None:
        """Let the next call open a connection of its own; those under way end on the old one."""
        with self._making:
            if self._retired is not None:
                self._retired.close()
            self._client, self._retired = None, self._client

    def _renew_when_due(self) -> None:
        """Get a new certificate once half of this one's life is over; while that fails the old one serves.

        One without the relay's name is replaced once as well: a factory that knows no such names gives none.
        """
        start, end = self._folder.validity()
        now = self._clock.now()
        due = self._is_nameless or now >= start + (end - start) / 2
        if not due or self._clock.monotonic() < self._renew_again_at:
            return
        self._renew_again_at = self._clock.monotonic() + RENEW_RETRY_SECONDS
        key = certificates.new_key()
        request = wire.renew_request_to_json(certificates.new_request(key, self.identity.name))
        try:
            answer = wire.renew_answer_from_json(self._call("POST", "/v1/agents/renew", request))
            self._folder.replace_certificate(answer.certificate_pem, key)
        except PenstockError as error:
            left = max(end - now, timedelta(0))
            log.warning(
                "certificate_not_renewed",
                error=error.sentence,
                hours_left=round(left / timedelta(hours=1), 1),
            )
            return
        self._is_nameless = False
        self._show_new_certificate()
        log.info("certificate_renewed", expires_at=answer.expires_at.isoformat())
