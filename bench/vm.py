"""Machines from order to SSH prompt by phase, many at once on two hosts, and 1,000 of them listed.

    python -m bench.vm [--quick]

Two hypervisor hosts as namespaces of this machine, guests in software (no KVM): how long a guest takes says little about
hardware, what the control plane adds to it says much. Its share is what passes from the order until the host begins
(the network on that host included) and from the guest's first instruction until the machine is said to run. The
peer is the guest itself: the rest of the same time. Needs root, libvirt and QEMU, and the guest's image (make guest-image).

Many at once are real domains of QEMU on an empty disk: they boot no system, because the guests' own processors, which are
this machine's, would be all that is measured. Hosts are said to have a processor for each. ``--guests`` boots a system in
each of them all the same.
"""

import argparse
import os
import statistics
import subprocess
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
from tests.support.infrastructure import change, query
from tests.support.machine_objects import make_host, make_image, qcow2, send_image
from tests.support.machine_site import Machine, MachineSite, machine_site
from tests.support.networks import made
from tests.support.tenancy import Tenant, make_tenant
from tests.support.waiting import until

ONE_BY_ONE, AT_ONCE, LISTED, PAGE = 3, 20, 1_000, 100
SETTLE_S, IDLE_S = 5.0, 20.0
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


def placed(site: MachineSite, machine: Machine) -> dict[str, float]:
    """Return how long each phase of a launch that is over took, in milliseconds."""
    (row,) = query(site.plane.context, _PHASES, id=machine.id)
    phases = {name: float(row[name]) for name in ("to_host_ms", "host_ms", "to_running_ms")}
    share_ms = phases["to_host_ms"] + phases["to_running_ms"]
    return {**phases, "share_ms": share_ms, "whole_ms": share_ms + phases["host_ms"]}


def all_run(site: MachineSite, machines: Sequence[Machine]) -> None:
    """Wait until machines run, asking rarely and once for all: asking costs what is measured."""
    ids = [machine.id for machine in machines]
    asked = "SELECT count(*) AS running FROM service WHERE id = ANY(:ids) AND running_at IS NOT NULL"
    until(lambda: query(site.plane.context, asked, ids=ids)[0]["running"] == len(ids), site.said)


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


def with_guests(site: MachineSite, tenant: Tenant, count: int) -> None:
    """Launch a few machines after each other, each from its order until one is logged in."""
    network = site.network(tenant, "guests")
    places = [site.place(tenant, network, f"guest-{number}") for number in range(count + 1)]
    launched(site, places[-1])  # images and networks are there from here on
    runs: list[dict[str, float]] = []
    for machine in places[:count]:
        runs.append(launched(site, machine))
        end(site, [machine])
    tell("one by one, from order to SSH", runs)
    end(site, places[-1:])


def at_once(site: MachineSite, tenant: Tenant, folder: Path, count: int, *, guests: bool) -> None:
    """Launch many machines at the same time, then let their agents be idle."""
    enough = "UPDATE node SET cpu_millis = :millis, cpu_threads = :threads, cpu_cores = :threads"
    threads = -(-count // 2) + 1
    change(site.plane.context, enough, millis=threads * 1_000, threads=threads)
    if not guests:
        disk = folder / "empty.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1M"], check=True)
        site.publish("empty", disk.read_bytes())
    spec = {} if guests else {"image": "empty", "memory_mib": 64}
    network = site.network(tenant, "many")
    places = [site.place(tenant, network, f"vm-{number}") for number in range(count + 1)]

    def launch(machine: Machine) -> Machine:
        return site.launch(machine, **spec)

    all_run(site, [launch(places[-1])])
    began = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(launch, places[:count]))
    all_run(site, places[:count])
    all_s = round(time.perf_counter() - began, 1)
    what = "" if guests else ", of guests that boot nothing"
    runs = [placed(site, machine) for machine in places[:count]]
    tell(f"{count} at once on two hosts{what}", runs, all_s=all_s)
    idle(site, count + 1)
    began = time.perf_counter()
    end(site, places)
    support.emit("vm", f"{count + 1} ended at once", all_s=round(time.perf_counter() - began, 1))


def idle(site: MachineSite, machines: int) -> None:
    """Say what the agents cost while nothing changes."""
    support.pause(SETTLE_S)
    pids = [agent.process.pid for agent in site.agents if agent.process is not None]
    before, began = sum(cpu_s(pid) for pid in pids), time.perf_counter()
    support.pause(IDLE_S)
    used_s, passed_s = sum(cpu_s(pid) for pid in pids) - before, time.perf_counter() - began
    support.emit(
        "vm",
        "agents of two hosts, idle",
        machines=machines,
        cpu_percent=round(used_s / passed_s * 100, 2),
        cpu_ms_per_machine_and_minute=round(used_s / passed_s * 60_000 / machines, 1),
    )


def cpu_s(pid: int) -> float:
    """Return the processor time of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
    parser.add_argument("--quick", action="store_true", help="1 to SSH, 3 at once, 100 listed")
    parser.add_argument("--guests", action="store_true", help="many at once boot a system, too: minutes")
    chosen = parser.parse_args()
    quick = chosen.quick
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
        tenant = site.tenant("bench")
        with_guests(site, tenant, 1 if quick else ONE_BY_ONE)
        at_once(site, tenant, folder, 3 if quick else AT_ONCE, guests=chosen.guests)


if __name__ == "__main__":
    main()
