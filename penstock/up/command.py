"""`penstock up`: a whole factory in the foreground."""

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import platformdirs
from rich.console import Console

from penstock import __version__
from penstock.base.errors import PenstockError
from penstock.up.factory import Factory, Options
from penstock.up.report import StatusLine, print_banner, print_first_token

EPILOG = """\
examples:
  penstock up                                    start (or go on with) the factory of this user
  penstock up --data /srv/penstock               keep its data elsewhere
  penstock up --agent-host 0.0.0.0               let agents of other machines join, too
  penstock up --exit-after-first-token           for scripts: 0 if a real token was served and billed
  PENSTOCK_DATABASE_URL=postgresql+psycopg://user@host/db penstock up
                                                 use an external PostgreSQL
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="penstock up",
        description="Start an AI factory: control plane, gateway, the local node and a simulated site.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default_data = os.environ.get("PENSTOCK_DATA") or platformdirs.user_data_dir("penstock")
    parser.add_argument(
        "--data", type=Path, default=Path(default_data), help="data folder (default: %(default)s)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; only loopback without TLS")
    parser.add_argument("--port", type=int, default=7070, help="port of the API (0: any free one)")
    parser.add_argument(
        "--gateway-port", type=int, default=7071, help="port of the LLM gateway (0: any free one)"
    )
    parser.add_argument(
        "--agent-port", type=int, default=7072, help="HTTPS port for remote agents (0: any free one)"
    )
    parser.add_argument(
        "--agent-host",
        metavar="HOST",
        help="address or name that remote agents reach this machine by, to listen on; 0.0.0.0 for all (default: --host)",
    )
    parser.add_argument(
        "--simulated",
        default="nvl72",
        metavar="SITE",
        help="simulated site: nvl72 (14 racks, 1,008 GB200), NODESxDEVICES:CLASS such as 1000x8:H100, or none",
    )
    parser.add_argument("--no-demo", action="store_true", help="do not order the demonstration endpoint")
    parser.add_argument("--no-context", action="store_true", help="do not write the client's context file")
    parser.add_argument(
        "--exit-after-first-token", action="store_true", help="stop cleanly after the first answer"
    )
    parser.add_argument("--version", action="version", version=f"penstock {__version__}")
    return parser


def parse(arguments: list[str]) -> tuple[Options, argparse.Namespace]:
    """Return the options of the factory and those of this command."""
    chosen = build_parser().parse_args(arguments)
    options = Options(
        data=chosen.data.expanduser().resolve(),
        host=chosen.host,
        port=chosen.port,
        gateway_port=chosen.gateway_port,
        agent_port=chosen.agent_port,
        agent_host=chosen.agent_host,
        simulated=chosen.simulated,
        database_url=os.environ.get("PENSTOCK_DATABASE_URL") or None,
        write_context=not chosen.no_context,
    )
    return options, chosen


def run(arguments: list[str]) -> int:
    """Start, show, wait for Ctrl-C, stop; return the exit code (0 fine, 1 failed, 2 cannot start)."""
    began = time.monotonic()
    options, chosen = parse(arguments)
    console = Console(stderr=False, highlight=False)
    stop = threading.Event()
    _stop_on_signals(stop)
    status = StatusLine(console)

    def say(sentence: str) -> None:
        """Show what is going on; between two steps is also where a first Ctrl-C interrupts."""
        if stop.is_set():
            raise KeyboardInterrupt
        status.say(sentence)

    factory = Factory(options, say)
    code = 0
    try:
        with status:
            factory.start()
        print_banner(console, factory, time.monotonic() - began)
        if not chosen.no_demo and not stop.is_set():
            with status:
                first = factory.first_token(say, status.text)
            print_first_token(console, first, factory, time.monotonic() - began)
        if not chosen.exit_after_first_token:
            with status:
                factory.supervise(stop, status.say)
    except PenstockError as error:
        code = _refuse(error.sentence)
    except OSError as error:
        code = _refuse(
            f"{error.filename or options.data}: {error.strerror or error}; start again when that is mended"
        )
    except KeyboardInterrupt:
        code = 130
    finally:
        with status:
            status.say("stopping: services keep their state, the database is closed cleanly")
            code = _stop(factory, code)
    console.print("stopped")
    return code


def _refuse(sentence: str) -> int:
    print(f"penstock: {sentence}", file=sys.stderr)  # noqa: T201 - the one line a script reads
    return 2


def _stop(factory: Factory, code: int) -> int:
    """Stop everything and return ``code``, or 130 if a second Ctrl-C cut that short."""
    try:
        factory.stop()
    except KeyboardInterrupt:
        _refuse("stopped in a hurry: what was left running is adopted or cleared away by the next start")
        return 130
    return code


def _stop_on_signals(stop: threading.Event) -> None:
    """First Ctrl-C or SIGTERM: stop cleanly. While starting it interrupts; a second one always does."""

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
