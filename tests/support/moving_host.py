"""Hosts whose machines and volumes are entries of dictionaries: they keep and send them as the drivers do, and may be killed in between."""

from dataclasses import dataclass, field
from typing import Any

from penstock.actions import agent as agent_actions
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Observed, Phase
from tests.support.machine_host import Host

SENDING = (
    "told",
    "begun",
    "arrived",
    "noted",
    "reported",
)  # what an agent that sends a machine has just done


class KilledError(Exception):
    """The agent was killed; what it wrote down, and what the hypervisor does, goes on."""


@dataclass
class World:
    """What is on the disks of all hosts: memory of machines, and volumes with how often they were written."""

    machines: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict[tuple[str, str], Any])
    volumes: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])


class MovingHost(Host):
    """One host of a ``World``; ``kill_after`` names the step of ``SENDING`` after which its agent dies, once."""

    def __init__(self, plane: ControlPlane, world: World, name: str) -> None:
        super().__init__(plane, name, drivers=("libvirt", "qcow2"))
        self.name, self.world = name, world
        self.kill_after: str | None = None
        self._volume_of: dict[str, str] = {}

    def work(self) -> None:
        """Do what is wanted and say so."""
        for wish in self.wishes():
            drive = self._volume if wish["driver"] == "qcow2" else self._machine
            phase, detail = drive(wish)
            said = Observed(wish["id"], wish["generation"], phase, {}, detail=detail)
            agent_actions.push(self.plane.context, self.agent_id, [said])
            if "moved_to" in detail and "moving" in wish["config"]:
                self._after("reported")
        self.plane.services.tick()
        self.plane.volumes.tick()

    def _after(self, step: str) -> None:
        if self.kill_after == step:
            self.kill_after = None
            raise KilledError(step)

    def _volume(self, wish: dict[str, Any]) -> tuple[Phase, dict[str, Any]]:
        if wish["wanted"] == "absent":
            kept = self._volume_of.pop(wish["id"], None)
            self.world.volumes.pop((self.name, str(kept)), None)
            return Phase.ABSENT, {}
        volume_id = self._volume_of[wish["id"]] = wish["config"]["volume"]
        self.world.volumes.setdefault((self.name, volume_id), 0)
        return Phase.READY, {"size_bytes": 1 << 30, "snapshots": {}}

    def _machine(self, wish: dict[str, Any]) -> tuple[Phase, dict[str, Any]]:
        config, key = wish["config"], (self.name, wish["id"])
        if wish["wanted"] == "absent":
            self.world.machines.pop(key, None)
            return Phase.ABSENT, {}
        record = self.world.machines.setdefault(key, {"here": False})
        detail = {"power": "on", "folder": f"/{self.name}", "volumes": "/v", "uri": "qemu+tcp://x/system"}
        if record.get("moving_to") and not record["here"]:
            record["moved_to"] = record["moving_to"]
        if config.get("halts") or "moved_to" in record:
            pass
        elif config.get("moving"):
            self._send(record, config["move"]["name"])
        elif not config.get("arriving"):
            record["here"] = True
        return Phase.READY, {**detail, **({"moved_to": record["moved_to"]} if "moved_to" in record else {})}

    def _send(self, record: dict[str, Any], name: str) -> None:
        """Send a machine with its volumes; its guest goes on writing where it arrives."""
        self._after("told")
        record["moving_to"] = name
        self._after("begun")
        (there,) = [host for host, one in self.world.machines if one == name]
        self.world.machines[(there, name)]["here"] = True
        record["here"] = False
        for host, volume_id in [*self.world.volumes]:
            if host == self.name:
                self.world.volumes[(there, volume_id)] = self.world.volumes[(self.name, volume_id)] + 1
        self._after("arrived")
        record["moved_to"] = name
        self._after("noted")
