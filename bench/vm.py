"""Machines from order to SSH prompt by phase, many at once on two hosts, and 1,000 of them listed.

    python -m bench.vm [--quick]

Two hypervisor hosts as namespaces of this machine, guests in software (no KVM): how long a guest takes says little about
hardware, what the control plane adds to it says much. Its share is what passes from the order until the host begins
(the network on that host included) and from the guest's first instruction until the machine is said to run. The
peer is the guest itself: the rest of the same time. Needs root, libvirt and QEMU, and the guest's image (make guest-image).
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
from fastapi.testclient import TestClient

from bench import support
from penstock.actions import agent as agent_actions
from penstock.api.app import create_app
from penstock.base.clock import SystemClock
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Observed, Phase
from penstock.drivers.embedded_postgres.server import EmbeddedPostgres
from penstock.store.migrate import migrate
from tests.fixtures.factory import plain, swap_database
from tests.support import guest_image, hypervisors
from tests.support.infrastructure import query
from tests.support.machine_objects import make_host, make_image, qcow2, send_image
from tests.support.machine_site import Machine, MachineSite, machine_site
from tests.support.networks import made
from tests.support.tenancy import Tenant, make_tenant

ONE_BY_ONE, AT_ONCE, LISTED, PAGE = 3, 20, 1_000, 100
_PHASES = """
    SELECT extract(epoch FROM a.started_at - s.ordered_at) * 1000 AS to_host_ms,
        extract(epoch FROM a.ready_at - a.started_at) * 1000 AS host_ms,
        extract(epoch FROM s.running_at - a.ready_at) * 1000 AS to_running_ms,
        extract(epoch FROM s.running_at) AS running_at
    FROM service s JOIN allocation a ON a.service_id = s.id WHERE s.id = :id
"""


def launched(site: MachineSite, machine: Machine) -> dict[str, float]:
    """Order one machine and log in to it; return how long each phase took, in milliseconds."""
    began = time.perf_counter()
    site.launch(machine)
    ordered_ms = (time.perf_counter() - began) * 1_000
    site.wait(machine, "running")
    machine.guest.wait()
    now = SystemClock().now().timestamp()
    (row,) = query(site.plane.context, _PHASES, id=machine.id)
    phases = {name: float(row[name]) for name in ("to_host_ms", "host_ms", "to_running_ms")}
    ssh_ms = (now - float(row["running_at"])) * 1_000
    share_ms = phases["to_host_ms"] + phases["to_running_ms"]
    return {
        "order_ms": ordered_ms,
        **phases,
        "ssh_ms": ssh_ms,
        "share_ms": share_ms,
        "whole_ms": share_ms + phases["host_ms"] + ssh_ms,
    }


def tell(case: str, runs: Sequence[dict[str, float]], **more: Any) -> None:
    """Print the median of each phase, and the worst share."""
    figures = {
        f"{name.removesuffix('_ms')}_p50_ms": round(statistics.median(run[name] for run in runs), 1)
        for name in runs[0]
    }
    worst = round(max(run["share_ms"] for run in runs), 1)
    support.emit("vm", case, machines=len(runs), **figures, share_max_ms=worst, **more)


def end(site: MachineSite, machines: Sequence[Machine]) -> None:
    """Terminate machines and wait until they are gone."""
    for machine in machines:
        made(machine.tenant.member.delete(f"/v1/vms/{machine.id}"))
    for machine in machines:
        site.wait(machine, "terminated")


def with_guests(site: MachineSite, tenant: Tenant, one_by_one: int, at_once: int) -> None:
    """Launch a few machines after each other, then many at once."""
    network = site.network(tenant, "bench")
    places = [site.place(tenant, network, f"vm-{number}") for number in range(max(one_by_one, at_once) + 1)]
    launched(site, places[-1])  # images and networks are there from here on
    runs: list[dict[str, float]] = []
    for machine in places[:one_by_one]:
        runs.append(launched(site, machine))
        end(site, [machine])
    tell("one by one, from order to SSH", runs)
    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        runs = list(pool.map(lambda machine: launched(site, machine), places[:at_once]))
    tell(f"{at_once} at once on two hosts", runs, all_s=round(time.perf_counter() - began, 1))
    end(site, [*places[:at_once], places[-1]])


def listed(url: str, folder: Path, count: int) -> None:
    """List many machines that a host only says it runs, page by page."""
    plane = ControlPlane(url, SystemClock(), connections=8)
    try:
        plane.context.vault.load(folder / "listed.key")
        plane.keep_images_in(folder / "listed-images")
        plane.seed()
        with TestClient(create_app(plane)) as client:
            tenant = make_tenant(plane, client, "many")
            # A host that tests make up has 16 processors, so there are as many of them as it takes.
            agents = [make_host(plane, f"simulated-{number}")[0] for number in range(-(-count // 16))]
            image_id = make_image(tenant, "none")
            made(send_image(tenant, image_id, qcow2()))
            spec = {"image": image_id, "memory_mib": 64}
            for number in range(count):
                made(
                    tenant.member.post(
                        "/v1/vms", project_id=tenant.project_id, name=f"vm-{number}", spec=spec
                    )
                )
            simulate(plane, agents)
            times: list[float] = []
            after: dict[str, str] = {}
            seen = 0
            while True:
                began = time.perf_counter()
                answer = tenant.member.get("/v1/vms", limit=str(PAGE), **after).json()
                times.append((time.perf_counter() - began) * 1_000)
                seen += len(answer["items"])
                if answer["next"] is None:
                    break
                after = {"after": answer["next"]}
            running = sum(one["state"] == "running" for one in answer["items"])
    finally:
        plane.close()
    page_ms = {"page_p50_ms": round(statistics.median(times), 1), "page_max_ms": round(max(times), 1)}
    support.emit(
        "vm", f"{seen} simulated machines listed", machines=seen, page=PAGE, running_last=running, **page_ms
    )


def simulate(plane: ControlPlane, agents: Sequence[str]) -> None:
    """Say of every machine on every host that it runs until nothing changes any more."""
    idle = 0
    while idle < 2:
        idle = 0 if plane.services.tick() + plane.vms.tick() else idle + 1
        for agent_id in agents:
            told = [
                Observed(one["id"], one["generation"], Phase.READY, detail={"power": "on"})
                for one in agent_actions.pull(plane.context, agent_id, 0, 0).allocations
                if "waiting" not in one["config"]
            ]
            agent_actions.push(plane.context, agent_id, told)


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 one by one, 3 at once, 100 listed")
    quick = parser.parse_args().quick
    why = hypervisors.missing() or guest_image.missing()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        server = EmbeddedPostgres(folder / "pg", SystemClock())
        url = server.start()
        stack.callback(server.stop)
        with psycopg.connect(plain(url), autocommit=True) as connection:
            connection.execute("CREATE DATABASE template_penstock")
        migrate(swap_database(url, "template_penstock"))
        with psycopg.connect(plain(url), autocommit=True) as connection:
            connection.execute("CREATE DATABASE listed TEMPLATE template_penstock")
        listed(swap_database(url, "listed"), folder, 100 if quick else LISTED)
        if why is not None:
            sys.exit(f"no machine can be started here: {why}")
        fabric = stack.enter_context(hypervisors.fabric(folder / "hv"))
        hosts = [fabric.add(), fabric.add()]
        site = stack.enter_context(machine_site(url, fabric, hosts, folder / "site", "site"))
        with_guests(site, site.tenant("bench"), 2 if quick else ONE_BY_ONE, 3 if quick else AT_ONCE)


if __name__ == "__main__":
    main()
