"""Residuals: what is left of each node. Claims take, releases give back; nothing is ever taken twice."""

from dataclasses import dataclass
from typing import NamedTuple

from penstock.base.errors import ConflictError
from penstock.scheduler.packing.shape import WHOLE_MILLI


@dataclass(frozen=True, slots=True)
class NodeKind:
    """What a node has when nothing runs on it. ``model`` is the number of its device model, -1 without devices."""

    cpu_milli: int
    memory_mib: int
    devices: int
    model: int


class Request(NamedTuple):
    """One request as plain numbers; the same fields as a row of ``Shapes``."""

    cpu_milli: int
    memory_mib: int
    devices: int
    device_milli: int
    models: int


class State(NamedTuple):
    """What decides the cost of a request on a node: CPU left, device model, what is left of each device.

    ``unused``: nothing runs on the node, so that it may be off.
    """

    cpu_milli: int
    model: int
    devices: tuple[int, ...]
    unused: bool = False


class Residuals:
    """What is left of ``nodes``, in their order; the order is also the one in which ties are broken."""

    def __init__(self, nodes: list[NodeKind]) -> None:
        self.kinds = nodes
        self.cpu_milli = [node.cpu_milli for node in nodes]
        self.memory_mib = [node.memory_mib for node in nodes]
        self.devices = [[WHOLE_MILLI] * node.devices for node in nodes]
        self.capacity_milli = sum(node.devices for node in nodes) * WHOLE_MILLI
        self.used_milli = 0

    def __len__(self) -> int:
        return len(self.kinds)

    def state(self, node: int, *, in_order: bool = False) -> State:
        """Return what is left of ``node``; the devices in their order, or sorted, least left first."""
        devices = tuple(self.devices[node] if in_order else sorted(self.devices[node]))
        return State(self.cpu_milli[node], self.kinds[node].model, devices, self.unused(node))

    def unused(self, node: int) -> bool:
        """Return whether nothing runs on ``node``."""
        kind = self.kinds[node]
        return (
            self.cpu_milli[node] == kind.cpu_milli
            and self.memory_mib[node] == kind.memory_mib
            and min(self.devices[node], default=WHOLE_MILLI) == WHOLE_MILLI
        )

    def fits(self, node: int, request: Request) -> bool:
        """Return whether ``request`` fits what is left of ``node``."""
        if self.cpu_milli[node] < request.cpu_milli or self.memory_mib[node] < request.memory_mib:
            return False
        if not request.devices:
            return True
        if not request.models >> max(self.kinds[node].model, 0) & 1:
            return False
        enough = sum(left >= request.device_milli for left in self.devices[node])
        return enough >= request.devices

    def choose(self, node: int, request: Request, source: int) -> tuple[int, ...]:
        """Return the devices to take: the first with ``source`` left, or the first that are enough."""
        if not request.devices:
            return ()
        devices = self.devices[node]
        if request.devices == 1 and source in devices:
            return (devices.index(source),)
        enough = [number for number, left in enumerate(devices) if left >= request.device_milli]
        return tuple(enough[: request.devices])

    def take(self, node: int, request: Request, devices: tuple[int, ...]) -> None:
        """Claim; raises ConflictError, with nothing changed, if anything of it is not there."""
        left = self.devices[node]
        enough = len(set(devices)) == len(devices) == request.devices and all(
            left[number] >= request.device_milli for number in devices
        )
        if not enough or not self.fits(node, request):
            raise ConflictError(f"node {node} cannot hold {request}; place it on what is left now")
        self.cpu_milli[node] -= request.cpu_milli
        self.memory_mib[node] -= request.memory_mib
        for number in devices:
            left[number] -= request.device_milli
        self.used_milli += request.devices * request.device_milli

    def give_back(self, node: int, request: Request, devices: tuple[int, ...]) -> None:
        """Release what ``take`` claimed; raises ConflictError if the node would have more than it has."""
        kind, left = self.kinds[node], self.devices[node]
        whole = all(left[number] + request.device_milli <= WHOLE_MILLI for number in devices)
        cpu, memory = self.cpu_milli[node] + request.cpu_milli, self.memory_mib[node] + request.memory_mib
        if not whole or cpu > kind.cpu_milli or memory > kind.memory_mib:
            raise ConflictError(f"node {node} does not hold {request}; release a claim once")
        self.cpu_milli[node], self.memory_mib[node] = cpu, memory
        for number in devices:
            left[number] += request.device_milli
        self.used_milli -= request.devices * request.device_milli
