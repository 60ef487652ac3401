"""A machine's config is taken apart strictly: whatever is wrong is named."""

import base64
from typing import Any

import pytest

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.drivers.libvirt.machine import parse, user_data_of
from tests.support.machines import config

IMAGE = {"id": "img_1", "sha256": "0" * 64, "size_bytes": 1}
VOLUME = {"id": "vol_1", "driver": "qcow2", "size_gib": 1, "snapshots": []}
MOVE = {"uri": "qemu+tls://there/system", "name": "two", "folder": "/f", "volumes": "/v", "live": 1}


def _config(**changes: Any) -> dict[str, Any]:
    return config(**{"image": IMAGE, **changes})


def test_a_whole_config() -> None:
    seed = {"instance_id": "i-1", "ssh_keys": ["ssh-ed25519 AAAA me"], "user_data_base64": "AP8="}
    machine = parse(
        _config(
            seed=seed,
            volumes=[dict(VOLUME)],
            snapshots=["one"],
            restores=1,
            restore_from="one",
            devices=[{"pci_address": "0000:3b:00.0", "numa_node": 1}],
            moving=1,
            move=MOVE,
        )
    )
    assert machine.seed.user_data == b"\0\xff"
    assert (machine.volumes[0].volume_id, machine.restore_from, machine.power) == ("vol_1", "one", "on")
    assert machine.move is not None
    assert machine.move.name == "two"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"host_name": "Bad_Name"}, "host_name"),
        ({"host_name": "x\ninstance-id: other"}, "host_name"),
        ({"uuid": "no"}, "uuid"),
        ({"vcpus": 0}, "vcpus"),
        ({"vcpus": True}, "vcpus"),
        ({"memory_mib": limits.VM_MEMORY_MIB_MAX + 1}, "memory_mib"),
        ({"disk_gib": -1}, "disk_gib"),
        ({"architecture": "z80"}, "architecture"),
        ({"image": {**IMAGE, "sha256": "../../etc/passwd"}}, "image.sha256"),
        ({"image": {**IMAGE, "backing": "x"}}, "image.backing"),
        ({"nics": [{"bridge": "br0; reboot", "mac": "52:54:00:00:00:01"}]}, "nics.0.bridge"),
        ({"nics": [{"bridge": "br0", "mac": "53:54:00:00:00:01"}]}, "nics.0.mac"),
        ({"nics": [{"bridge": "br0", "mac": "52:54:00:00:00:01"}] * 2}, "nics"),
        ({"nics": [{"bridge": "br0", "mac": "52:54:00:00:00:01", "tap": "a/b"}]}, "nics.0.tap"),
        ({"devices": [{}]}, "devices.0.pci_address"),
        ({"devices": [{"pci_address": "3b:00.0"}]}, "devices.0.pci_address"),
        ({"devices": [{"mdev_uuid": "x"}]}, "devices.0.mdev_uuid"),
        ({"devices": [{"pci_address": "0000:3b:00.0"}] * 2}, "devices"),
        ({"devices": [{"pci_address": "0000:3b:00.0", "simulated": 1}]}, "devices.0.pci_address"),
        ({"devices": [{"pci_address": "0000:40:00.1", "simulated": 1}]}, "devices.0.pci_address"),
        ({"devices": [{"pci_address": "0000:ff:00.0", "simulated": 1}]}, "devices.0.pci_address"),
        ({"volumes": [{**VOLUME, "id": "../root"}]}, "volumes.0.id"),
        ({"volumes": [{**VOLUME, "driver": "tape"}]}, "volumes.0.driver"),
        ({"volumes": [VOLUME, VOLUME]}, "volumes"),
        ({"snapshots": ["x/y"]}, "snapshots.0"),
        ({"restores": 1, "restore_from": "gone"}, "restore_from"),
        ({"power": "maybe"}, "power"),
        ({"moving": 1, "move": {**MOVE, "uri": "http://there"}}, "move.uri"),
        ({"seed": {"instance_id": "i", "user_data_base64": "not base64!"}}, "seed.user_data_base64"),
        ({"seed": {"instance_id": "i", "ssh_keys": ["a\nb"]}}, "seed.ssh_keys.0"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse(_config(**changes))
    assert caught.value.field == field


def test_user_data_is_for_each_interface_whose_device_is_known() -> None:
    nics = [{"bridge": "br0", "mac": f"52:54:00:00:00:0{number}"} for number in range(3)]
    nics[0]["tap"], nics[2]["tap"] = "pnt1", "pnt2"
    seed = {"instance_id": "i-1", "user_data_base64": "AP8="}
    assert user_data_of(_config(seed=seed, nics=nics)) == {"pnt1": b"\0\xff", "pnt2": b"\0\xff"}
    assert user_data_of(_config(nics=nics)) == {}
    assert user_data_of({"waiting": 1}) == {}


def test_user_data_has_a_limit() -> None:
    data = base64.b64encode(b"x" * (limits.USER_DATA_BYTES_MAX + 1)).decode()
    with pytest.raises(InvalidInputError) as caught:
        parse(_config(seed={"instance_id": "i", "user_data_base64": data}))
    assert caught.value.field == "seed.user_data_base64"


def test_hardware_is_what_a_running_machine_cannot_change() -> None:
    one = _config()
    same, other = {**one, "power": "off", "volumes": [VOLUME]}, {**one, "vcpus": 2}
    assert parse(one).hardware == parse(same).hardware != parse(other).hardware
