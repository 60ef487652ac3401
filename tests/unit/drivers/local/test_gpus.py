"""GPUs through the real NVML client against a FAKE libnvidia-ml.so.1: nothing here says anything about hardware."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.domain.device import load_device_classes
from penstock.drivers.local.gpus import _pci_address, read_gpus
from tests.support import homes

SOURCE = Path(homes.__file__).parent / "fake_nvml.c"
GIB = 1 << 30
READ = (
    "import dataclasses, json, os\n"
    "from pathlib import Path\n"
    "from penstock.domain.device import load_device_classes\n"
    "from penstock.drivers.local.gpus import read_gpus\n"
    "devices, notes = read_gpus(load_device_classes(), Path(os.environ.get('FAKE_SYS', '/sys')))\n"
    "print(json.dumps([[dataclasses.asdict(device) for device in devices], notes]))\n"
)
H100 = "NVIDIA H100 80GB HBM3|GPU-{n}|81920|0|0|-|ok"

Read = Callable[..., tuple[list[dict[str, Any]], list[str]]]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the compiled stand-in."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler here, and the fake NVML library is C")
    folder = tmp_path_factory.mktemp("fake_nvml")
    library = folder / "libnvidia-ml.so.1"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", f"-Wl,-soname,{library.name}"]
    subprocess.run([compiler, *options, "-o", str(library), str(SOURCE)], check=True)
    return folder


@pytest.fixture
def read(fake: Path, tmp_path: Path) -> Read:
    """Return a function that reads the GPUs in a process of its own: a library is loaded once for all."""

    def work(*lines: str, driver: bool = True) -> tuple[list[dict[str, Any]], list[str]]:
        state = tmp_path / "state"
        environment = {**os.environ, "LD_LIBRARY_PATH": str(fake), "FAKE_NVML_STATE": str(state)}
        environment["FAKE_SYS"] = str(tmp_path / "sys")
        state.unlink(missing_ok=True)
        if driver:
            state.write_text("".join(line + "\n" for line in lines))
        done = subprocess.run(
            [sys.executable, "-c", READ], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        devices, notes = json.loads(done.stdout)
        return devices, notes

    return work


def test_each_gpu_is_reported_with_what_identifies_and_places_it(read: Read, tmp_path: Path) -> None:
    for address, node in (("0000:11:00.0", "-1"), ("0000:12:00.0", "1")):
        folder = tmp_path / "sys" / "bus" / "pci" / "devices" / address
        folder.mkdir(parents=True)
        (folder / "numa_node").write_text(node + "\n")
    devices, notes = read(H100.format(n=0), H100.format(n=1))
    assert notes == []
    assert [device["index"] for device in devices] == [0, 1]
    assert devices[0]["numa_node"] is None  # the firmware does not say
    assert devices[1] == {
        "index": 1,
        "device_class": "H100",
        "model": "NVIDIA H100 80GB HBM3",
        "vendor": "nvidia",
        "memory_bytes": 80 * GIB,
        "serial": "FAKE00000002",
        "uuid": "GPU-1",
        "pci_address": "0000:12:00.0",
        "numa_node": 1,
        "nvlink_domain": None,
        "health": "ok",
        "attach": "vfio",
        "mdev_type": None,
    }


def test_gpus_of_one_nvlink_fabric_are_in_one_domain(read: Read) -> None:
    lines = [
        f"NVIDIA GB200|GPU-{n}|190464|0|0|{fabric}|ok" for n, fabric in enumerate(("7.1", "7.1", "7.2", "-"))
    ]
    devices, _ = read(*lines)
    domains = [device["nvlink_domain"] for device in devices]
    assert domains == ["07" * 16 + ".1", "07" * 16 + ".1", "07" * 16 + ".2", None]
    assert {device["device_class"] for device in devices} == {"GB200"}


def test_a_lost_gpu_is_named_and_the_others_keep_their_places(read: Read) -> None:
    devices, notes = read(H100.format(n=0), H100.format(n=1).replace("|ok", "|lost"), H100.format(n=2))
    assert [device["index"] for device in devices] == [0, 2]
    assert notes == ["GPU 1 cannot be read: GPU is lost"]


def test_memory_that_must_be_reset_is_suspect_and_memory_that_must_be_replaced_has_failed(read: Read) -> None:
    states = ["81920|0|0", "81920|3|0", "81920|0|1", "81920|0|2", "81920|3|2"]
    lines = [H100.format(n=n).replace("81920|0|0", state) for n, state in enumerate(states)]
    devices, _ = read(*lines)
    assert [device["health"] for device in devices] == ["ok", "suspect", "suspect", "failed", "failed"]


@pytest.mark.parametrize(
    ("bus_id", "address"),
    [
        ("00000000:1B:00.0", "0000:1b:00.0"),
        ("0008:01:00.0", "0008:01:00.0"),
        ("00010000:01:00.0", "00010000:01:00.0"),
    ],
)
def test_pci_addresses_are_written_as_the_kernel_does(bus_id: str, address: str) -> None:
    assert _pci_address(bus_id) == address


def test_a_model_that_no_class_matches_is_reported_as_it_is(read: Read) -> None:
    devices, notes = read("NVIDIA Z9000 Prototype|GPU-0|4096|0|0|-|ok")
    assert [(d["device_class"], d["model"], d["memory_bytes"]) for d in devices] == [
        ("unknown", "NVIDIA Z9000 Prototype", 4 * GIB)
    ]
    assert notes == []


def test_what_an_older_driver_does_not_offer_is_left_out(read: Read) -> None:
    devices, notes = read(H100.format(n=0).replace("|ok", "|old"))
    assert notes == []
    absent = {name for name, value in devices[0].items() if value is None}
    assert absent == {"serial", "numa_node", "nvlink_domain", "mdev_type"}
    assert devices[0]["health"] == "ok"


def test_a_driver_without_gpus_and_a_library_without_driver_say_so(read: Read) -> None:
    assert read() == ([], ["no GPU found: the driver manages none"])
    assert read(driver=False) == ([], ["no GPU found: Driver Not Loaded"])


def test_without_the_library_there_is_no_gpu_and_a_sentence(tmp_path: Path) -> None:
    """An empty file of that name stands in front of whatever this machine has."""
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", READ], env=environment, capture_output=True, text=True, check=True
    )
    devices, notes = json.loads(done.stdout)
    assert devices == []
    assert notes == ["no GPU found: NVIDIA's management library (libnvidia-ml.so.1) is not installed"]


def test_this_machine_is_read_without_an_error() -> None:
    devices, notes = read_gpus(load_device_classes())
    assert devices or notes
    assert all(device.memory_bytes > 0 for device in devices)


def test_sensors_of_gpus_are_read_and_those_without_say_nothing(fake: Path, tmp_path: Path) -> None:
    lines = [f"{H100.format(n=0)}|312600|61", H100.format(n=1), H100.format(n=2).replace("|ok", "|lost")]
    state = tmp_path / "state"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(fake), "FAKE_NVML_STATE": str(state)}
    program = (
        "from penstock.base.clock import SystemClock\n"
        "from penstock.drivers.local.driver import LocalDriver\n"
        "driver = LocalDriver(SystemClock(), name='here')\n"
        "print([(one.node, one.index, one.watts, one.celsius) for one in driver.sensors()])\n"
    )
    said: list[str] = []
    for content in (None, lines):
        if content is not None:
            state.write_text("".join(line + "\n" for line in content))
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        said.append(done.stdout.strip())
    assert said == ["[]", "[('here', 0, 313, 61)]"]
