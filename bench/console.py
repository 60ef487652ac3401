"""How long the console takes to answer, how heavy its first page is, and how smooth a floor of 100,000 devices is.

    python -m bench.console [--quick]

Two factories in fresh data folders: one with 1,008 simulated devices and 60 services, on which every page is
asked for again and again by one signed-in person without a cache; one control plane with 100,000 devices (ten
sites of 1,250 nodes of 8, enrolled without an agent), whose floor is read and, where Chromium is installed, drawn
and moved frame by frame. Times are those that the person waits: sending, rendering, reading, on this machine.
"""

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from bench import support
from penstock.actions import agent as agent_actions
from penstock.actions import node as node_actions
from penstock.actions.bootstrap import bootstrap, first_logins
from penstock.actions.enrolment import SiteFacts
from penstock.base.clock import SystemClock
from penstock.console.floor import FRESH_COST_FACTOR
from penstock.control_plane import ControlPlane
from penstock.drivers.embedded_postgres.server import EmbeddedPostgres
from penstock.drivers.simulated.site import node_facts, parse_site
from penstock.store.migrate import migrate
from penstock.up.server import ApiServer, bind
from tests.support.browser import chromium, launched
from tests.support.browser import window as opened
from tests.support.console import forms
from tests.support.factory_process import FactoryProcess, demo_project

BASE = "/console"
ROUNDS, QUICK_ROUNDS = 40, 5
SERVICES, QUICK_SERVICES = 60, 6
SITES, QUICK_SITES = 10, 1
NODES_PER_SITE, DEVICES_PER_NODE = 1_250, 8
FRAMES = 120
TENANT = {"home": "/", "catalogue": "/catalogue", "services": "/services", "usage": "/usage"}
OPERATOR = {
    "floor": "/floor",
    "capacity": "/capacity",
    "placement": "/placement",
    "tenants": "/tenants",
    "events": "/events",
}


@contextmanager
def factory(simulated: str) -> Iterator[FactoryProcess]:
    """Run a factory in a folder that goes away."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-console-") as folder,
        support.Factory(Path(folder), simulated=simulated) as made,
    ):
        yield made


def signed_in(made: "FactoryProcess | Hall", who: str) -> httpx.Client:
    """Return a client with the cookie of a session."""
    client = httpx.Client(base_url=made.url, timeout=60.0, follow_redirects=True)
    body = forms(client.get(f"{BASE}/login").text)[f"{BASE}/login"]
    password = (made.data / "keys" / f"{who}.password").read_text().strip()
    answer = client.post(
        f"{BASE}/login", data={**body, "email": f"{who}@factory.local", "password": password}
    )
    answer.raise_for_status()
    return client


def times_ms(ask: Callable[[], httpx.Response], rounds: int) -> list[float]:
    """Return how long each of ``rounds`` answers took; the first one, which compiles the template, is left out."""
    ask().raise_for_status()
    taken: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        ask().raise_for_status()
        taken.append(1_000 * (time.perf_counter() - began))
    return taken


def pages(rounds: int, services: int) -> None:
    """Measure pages and print one line for each, one for all of them, and one for the weight of the first."""
    with factory("nvl72") as made:
        with made.client(made.keys().demo) as api:
            project = demo_project(api)
            for number in range(services):
                body = {"offer": "gb200", "project": project, "name": f"job-{number}", "spec": {"count": 4}}
                api.post("/v1/services", json=body).raise_for_status()
            first = api.get("/v1/services", params={"limit": 1}).json()["items"][0]["id"]
        everything: list[float] = []
        for who, paths in (("demo", {**TENANT, "service": f"/services/{first}"}), ("operator", OPERATOR)):
            with closing(signed_in(made, who)) as client:
                for name, path in paths.items():
                    taken = times_ms(lambda path=path, client=client: client.get(f"{BASE}{path}"), rounds)
                    everything += taken
                    show = {"p50_ms": statistics.median(taken), "p95_ms": support.percentile(taken, 0.95)}
                    support.emit("console", name, rounds=rounds, **{k: round(v, 1) for k, v in show.items()})
                if who == "demo":
                    support.emit("console", "first page", wire_bytes=weight(client))
        support.emit(
            "console",
            "all pages",
            p50_ms=round(statistics.median(everything), 1),
            p95_ms=round(support.percentile(everything, 0.95), 1),
        )


def weight(client: httpx.Client) -> int:
    """Return the bytes of the first page and of everything that it loads, packed as they travel, without headers."""
    page = client.get(f"{BASE}/")
    linked = set(re.findall(rf'(?:href|src)="({BASE}/static/[^"]+)"', page.text))
    fonts = {
        f"{BASE}/static/0/vendor/{name}"
        for name in ("ibm-plex-sans-latin-wght-normal.woff2", "ibm-plex-mono-latin-400-normal.woff2")
    }
    total = len(page.content)
    for address in sorted(linked | fonts):
        with client.stream("GET", address, headers={"accept-encoding": "gzip"}) as answer:
            answer.raise_for_status()
            total += sum(len(piece) for piece in answer.iter_raw())
    return total


@dataclass
class Hall:
    """A control plane with many devices and its console, in this process; looks to a browser as a factory does."""

    data: Path
    url: str


@contextmanager
def hall(sites: int) -> Iterator[Hall]:
    """Serve a control plane with ``sites`` sites, enrolled without an agent."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="bench-console-") as folder, ExitStack() as stack:
        postgres = EmbeddedPostgres(Path(folder) / "postgres", clock)
        url = postgres.start()
        stack.callback(postgres.stop)
        migrate(url)
        plane = ControlPlane(url, clock)
        stack.callback(plane.close)
        plane.seed()
        bootstrap(plane.context, Path(folder) / "keys")
        first_logins(plane.context, Path(folder) / "keys")
        agent = agent_actions.ensure_in_process(plane.context, "bench")
        for number in range(sites):
            _enroll(plane, agent, f"hall-{number:02}")
        server = ApiServer(plane, bind("127.0.0.1", 0, "the console", "nothing"))
        server.start()
        stack.callback(server.stop)
        yield Hall(Path(folder), server.url)


def _enroll(plane: ControlPlane, agent: str, name: str) -> None:
    spec = parse_site(f"{NODES_PER_SITE}x{DEVICES_PER_NODE}:H100", dict(plane.context.device_classes))
    nodes = node_facts(replace(spec, name=name))
    site = SiteFacts(name, simulated=True)
    node_actions.enroll(plane.context, agent, site, nodes, {node.name: ("simulated",) for node in nodes})


def floor(sites: int) -> None:
    """Measure the floor of a large factory: reading it cold and warm, its weight, and the frames of a browser."""
    count = sites * NODES_PER_SITE * DEVICES_PER_NODE
    with hall(sites) as made, closing(signed_in(made, "operator")) as client:
        cold: list[float] = []
        for _ in range(5):
            support.pause(1.1 if not cold else 1.1 + FRESH_COST_FACTOR * cold[-1] / 1_000)
            began = time.perf_counter()
            with client.stream("GET", f"{BASE}/floor.json", headers={"accept-encoding": "gzip"}) as answer:
                sent = sum(len(piece) for piece in answer.iter_raw())
            cold.append(1_000 * (time.perf_counter() - began))
        warm = times_ms(lambda: client.get(f"{BASE}/floor.json"), 3)
        page = client.get(f"{BASE}/floor")
        figures: dict[str, Any] = {
            "devices": count,
            "read_ms": round(statistics.median(cold), 1),
            "again_ms": round(statistics.median(warm), 1),
            "wire_bytes": sent,
            "page_bytes": len(page.content),
        }
        if chromium() is not None:
            figures |= frames(made)
        support.emit("console", f"floor of {count:,} devices", **figures)


_FRAMES = """
async (frames) => {
  const box = document.getElementById('floor');
  const canvas = box.querySelector('canvas');
  const area = canvas.getBoundingClientRect();
  const at = {clientX: area.left + area.width / 2, clientY: area.top + area.height / 2, bubbles: true, cancelable: true};
  const taken = [];
  for (let frame = 0; frame < frames; frame += 1) {
    const began = performance.now();
    canvas.dispatchEvent(new WheelEvent('wheel', {...at, deltaY: frame < frames / 2 ? -24 : 24}));
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    taken.push(performance.now() - began);
  }
  return taken.sort((a, b) => a - b);
}
"""


def frames(made: Hall) -> dict[str, float]:
    """Zoom in and out in a browser without a graphics card and return how long a frame takes, drawn in software."""
    with launched() as browser, opened(browser, made.url) as window:
        password = (made.data / "keys" / "operator.password").read_text().strip()
        window.log_in("operator@factory.local", password)
        window.open("/floor")
        window.page.locator("#floor[data-ready]").wait_for()
        taken: list[float] = window.page.evaluate(_FRAMES, FRAMES)
    # Each sample waits for two frames of the screen, so half of it is one.
    return {
        "frame_p50_ms": round(statistics.median(taken) / 2, 1),
        "frame_p95_ms": round(support.percentile(taken, 0.95) / 2, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="few rounds and a small floor, to see that it works"
    )
    parser.add_argument("--only", choices=("pages", "floor"), help="one half of it")
    chosen = parser.parse_args()
    if chosen.only != "floor":
        pages(QUICK_ROUNDS if chosen.quick else ROUNDS, QUICK_SERVICES if chosen.quick else SERVICES)
    if chosen.only != "pages":
        floor(QUICK_SITES if chosen.quick else SITES)


if __name__ == "__main__":
    main()
