"""`penstock agent join` and `penstock agent run`: an agent as a process of its own, on any machine.

``join`` gives this machine an identity with a one-time token and goes on as ``run`` does. What the agent
started keeps running when it stops, unless it is told to stop that as well.
"""

import argparse
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import FrameType

import platformdirs
import structlog

from penstock.agent import holding, machines, serve_at, weights_options
from penstock.agent.certificates import HttpsCertificates
from penstock.agent.clear_host import clear
from penstock.agent.desired import DesiredFile
from penstock.agent.doors import Doors
from penstock.agent.ending_link import EndingLink
from penstock.agent.enrolling_link import EnrollingLink
from penstock.agent.host_log import Ring
from penstock.agent.https_link import HttpsLink
from penstock.agent.identity import Identity, IdentityFolder
from penstock.agent.images import HttpsImages
from penstock.agent.join import join
from penstock.agent.loop import Agent
from penstock.agent.relay import Relay
from penstock.agent.volume_keys import HttpsKeys
from penstock.agent.weights import HttpsWeights
from penstock.agent.weights_report import WeightsReport
from penstock.base import limits
from penstock.base.clock import Clock, SystemClock
from penstock.base.errors import InvalidInputError, PenstockError, UnavailableError
from penstock.drivers.base import Driver, Phase
from penstock.drivers.local.driver import LocalDriver
from penstock.drivers.nftables.host_lock import Holder, HostLock
from penstock.drivers.weights.cache import WeightsCache

log = structlog.get_logger(__name__)

STOP_SERVICES_SECONDS = 30.0
JOIN_RETRY_SECONDS_MAX = 5.0
EXIT_REFUSED = 3
_EPILOG = """\
examples:
  penstock agent token > token.txt                   (with an operator key) make a token for one machine
  penstock agent join --url https://factory:7072 --token-file token.txt --serve-at 10.0.0.17
  penstock agent run                                 go on after a restart of the machine
The token may also come on standard input (--token-file -) or in PENSTOCK_JOIN_TOKEN.
"""


def run(argv: Sequence[str]) -> int:
    """Run ``penstock agent ARGV``; return the exit code.

    0 after a clean stop, 1 with one sentence on what is wrong, 130 after Ctrl-C while joining, 3 if the factory does not accept this agent
    any more: whoever restarts it need not, before it has joined again.
    """
    chosen = build_parser().parse_args(argv)
    clock = SystemClock()
    ring = Ring(clock)
    _log_to_stderr(ring)
    folder = IdentityFolder(chosen.state_dir / "identity")
    try:
        if chosen.command == "clear-host":
            print("\n".join(clear(chosen.owner, clock)))  # noqa: T201 - a command speaks to a person
            return 0
        said = None if chosen.serve_at is None else serve_at.parse(chosen.serve_at)
        held = folder.hold()
        try:
            if said is not None:
                serve_at.remember(chosen.state_dir, said)
            machines.remember(chosen.state_dir, chosen)
            weights_options.remember(chosen.state_dir, chosen)
            if chosen.command == "join":
                _join(folder, chosen)
                if chosen.only_join:
                    return 0
            return _work(folder, chosen, clock, ring)
        finally:
            os.close(held)
    except PenstockError as error:
        print(f"penstock agent: {error.sentence}", file=sys.stderr)  # noqa: T201 - a command speaks to a person
        return 1
    except KeyboardInterrupt:
        return 130  # Ctrl-C before it could be taken as a request to stop


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="penstock agent",
        description="Run an agent on this machine: it offers the machine to a factory and drives what is ordered.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    default = os.environ.get("PENSTOCK_AGENT_STATE") or platformdirs.user_data_dir("penstock-agent")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--state-dir",
        type=_folder,
        default=_folder(default),
        help="where it keeps its state (default: %(default)s)",
    )
    shared.add_argument(
        "--stop-services", action="store_true", help="when the agent stops, stop what it started as well"
    )
    shared.add_argument(
        "--serve-at",
        metavar="HOST[:PORT]",
        help="address of this machine that the factory's gateway reaches its LLM replicas by; remembered (default: "
        "127.0.0.1, which only a gateway on this machine reaches, and any free port)",
    )
    machines.add_options(shared)
    weights_options.add_options(shared)
    joining = commands.add_parser("join", parents=[shared], help="join a factory with a token, then run")
    joining.add_argument(
        "--url", required=True, help="address of the factory's agent listener, https://host:port"
    )
    joining.add_argument(
        "--token-file", metavar="FILE", help="file with the join token; - for standard input"
    )
    joining.add_argument(
        "--name", default=_host_name(), help="name of this machine in the factory (default: its host name)"
    )
    joining.add_argument(
        "--site", default="local", help="site that this machine stands in (default: %(default)s)"
    )
    joining.add_argument("--replace", action="store_true", help="give up the identity that this agent has")
    joining.add_argument("--only-join", action="store_true", help="join and exit; start it with `run` later")
    commands.add_parser("run", parents=[shared], help="run an agent that has joined before")
    clearing = commands.add_parser(
        "clear-host",
        help="say which agents made networks and load balancers on this host, or take away what one that is gone left",
    )
    clearing.add_argument("--owner", metavar="ID", help="take away what this agent made (default: only say)")
    return parser


def _join(folder: IdentityFolder, chosen: argparse.Namespace) -> None:
    if folder.exists() and not chosen.replace:
        known = folder.load()
        raise InvalidInputError(
            f"this agent has joined {known.url} as '{known.name}' already: start it with `penstock agent run`, or "
            "give --replace to join anew",
            field="replace",
        )
    for name in ("name", "site"):
        if not 1 <= len(getattr(chosen, name)) <= limits.NAME_CHARACTERS_MAX:
            raise InvalidInputError(f"--{name} has 1 to {limits.NAME_CHARACTERS_MAX} characters", field=name)
    identity = _insist(folder, chosen, _read_token(chosen.token_file))
    print(f"joined {identity.url} as agent {identity.agent_id} ({identity.name})", flush=True)  # noqa: T201 - a command speaks to a person


def _insist(folder: IdentityFolder, chosen: argparse.Namespace, token: str) -> Identity:
    """Join; while nobody answers, say so and try again: machines and their factory may start together."""
    pause, said = 0.25, ""
    while True:
        try:
            return join(folder, url=chosen.url, token=token, name=chosen.name, site=chosen.site)
        except UnavailableError as error:
            if chosen.only_join:
                raise
            if error.sentence != said:
                print(f"penstock agent: {error.sentence}; trying again", file=sys.stderr, flush=True)  # noqa: T201 - a command speaks to a person
            said = error.sentence
            time.sleep(pause)
            pause = min(pause * 2, JOIN_RETRY_SECONDS_MAX)


def _read_token(file: str | None) -> str:
    """Return the token from a file, standard input or the environment; never from the command line."""
    if file is None:
        token = os.environ.get("PENSTOCK_JOIN_TOKEN", "")
        if not token.strip():
            raise InvalidInputError(
                "give the join token with --token-file, or in PENSTOCK_JOIN_TOKEN", field="token"
            )
        return token.strip()
    try:
        text = sys.stdin.read(1_024) if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise InvalidInputError(
            f"the token file {file} cannot be read: {error}", field="token_file"
        ) from error
    return text.strip()


def _work(folder: IdentityFolder, chosen: argparse.Namespace, clock: Clock, ring: Ring) -> int:
    stop = threading.Event()
    before = {number: signal.signal(number, _stopper(stop)) for number in (signal.SIGTERM, signal.SIGINT)}
    cache = weights_options.cache(chosen.state_dir, HttpsWeights(folder), clock)
    lock = HostLock(_holder(folder.load()))
    drivers = _engines(chosen.state_dir, clock, folder, cache, lock)
    where = serve_at.recall(chosen.state_dir)
    link = HttpsLink(folder, clock, where.host)
    machine = LocalDriver(clock, name=link.identity.name)
    relay: Relay | None = None
    try:
        relay = _relay(folder, link.identity, where, chosen.state_dir)
        enrolling = EnrollingLink(
            link,
            lambda: holding.noted(machine.inventory().nodes, drivers),
            lambda: holding.offered(drivers),
            clock,
        )
        ending = EndingLink(enrolling, stop)
        desired = DesiredFile(chosen.state_dir / "desired.json")
        weights, logs = WeightsReport(cache, clock), [ring, *machines.logs(chosen.state_dir, clock)]
        agent = Agent(ending, drivers, clock, desired, Doors(relay), weights, [machine], logs)
        log.info(
            "agent_started",
            agent=link.identity.agent_id,
            url=link.identity.url,
            serves_at=relay.url,
            drivers=holding.offered(drivers),
        )
        agent.run(stop)
        if ending.refusal is not None:
            print(f"penstock agent: {ending.refusal}", file=sys.stderr)  # noqa: T201 - a command speaks to a person
            return EXIT_REFUSED  # what runs here goes on: whether it is still wanted is not ours to judge
        relay.stop()
        if chosen.stop_services:
            stop_services(drivers, clock)
        log.info("agent_stopped")
        return 0
    finally:
        if relay is not None:
            relay.stop()
        link.close()
        lock.release()
        for number, handler in before.items():
            signal.signal(number, handler)


def _relay(folder: IdentityFolder, identity: Identity, where: serve_at.ServeAt, state_dir: Path) -> Relay:
    """Return a relay that answers; a port that was found free is remembered, so that it is the same next time."""
    relay = Relay(where, identity.agent_id, folder.certificate_file, folder.authority_file)
    try:
        if relay.port != where.port:
            serve_at.remember(state_dir, replace(where, port=relay.port))
        relay.start()
    except BaseException:
        relay.stop()
        raise
    return relay


def _holder(identity: Identity) -> Holder:
    return Holder(identity.agent_id, identity.name, f"the factory at {identity.url}")


def _engines(
    state_dir: Path, clock: Clock, folder: IdentityFolder, cache: WeightsCache, lock: HostLock
) -> dict[str, Driver]:
    """Return the drivers that can run things on this machine. Imported here: `--help` need not wait for them."""
    embedded = import_module("penstock.drivers.ctranslate2.driver").CTranslate2Driver
    vllm = import_module("penstock.drivers.vllm.driver").VllmDriver(state_dir / "vllm", clock, weights=cache)
    found: list[Driver] = [embedded(state_dir / "ctranslate2", clock, weights=cache)]
    if vllm.program is not None or vllm.observe():  # what an earlier start left running is still ours
        found.append(vllm)
    networks = import_module("penstock.drivers.nftables.driver")
    if networks.unavailable() is None:
        found.append(networks.NftablesNetworkDriver(clock, lock=lock))
        balancers = import_module("penstock.drivers.haproxy.driver")
        if balancers.unavailable() is None:
            found.append(balancers.HaproxyDriver(clock, HttpsCertificates(folder), lock=lock))
    hosted = machines.drivers(state_dir, clock, HttpsImages(folder), HttpsKeys(folder))
    if (
        hosted and networks.unavailable() is None
    ):  # its first machine need not wait for what networks are made with
        load = import_module("penstock.drivers.nftables.kernel").load
        threading.Thread(target=load, name="load-networks", daemon=True).start()
    found += hosted
    return {driver.name: driver for driver in found}


def stop_services(drivers: Mapping[str, Driver], clock: Clock) -> list[str]:
    """Remove everything that runs through ``drivers``; return the allocations that did not go in time."""
    end = clock.monotonic() + STOP_SERVICES_SECONDS
    left: list[tuple[Driver, str]] = []
    for driver in drivers.values():
        left += [(driver, one.allocation_id) for one in driver.observe()]
    while left and clock.monotonic() < end:
        left = [(driver, key) for driver, key in left if driver.remove(key).phase is not Phase.ABSENT]
        if left:
            time.sleep(0.05)
    for driver, key in left:
        log.warning("service_not_stopped", driver=driver.name, allocation=key)
    return [key for _, key in left]


def _stopper(stop: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    return handle


def _folder(text: str) -> Path:
    return Path(text).expanduser().resolve()


def _host_name() -> str:
    return socket.gethostname().split(".")[0].lower()[: limits.NAME_CHARACTERS_MAX] or "agent"


def _log_to_stderr(ring: Ring) -> None:
    """One JSON object a line on standard error, for the journal of the machine; ``ring`` remembers the newest."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            ring,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
