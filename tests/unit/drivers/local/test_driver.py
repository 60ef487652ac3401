"""The local driver on this machine, and on captured ones."""

import os
import platform
from pathlib import Path

import orjson
import pytest

from penstock.actions.enrolment import SiteFacts, check
from penstock.base.clock import SystemClock
from penstock.domain.device import load_device_classes
from penstock.drivers.base import Driver, Phase, Wanted
from penstock.drivers.local.driver import LocalDriver
from penstock.drivers.wire import Enrolment, enrolment_from_json, enrolment_to_json


@pytest.fixture
def driver() -> LocalDriver:
    return LocalDriver(SystemClock(), name="here")


def test_this_machine_is_one_real_node(driver: LocalDriver) -> None:
    (node,) = driver.inventory().nodes
    assert node.name == "here"
    assert node.architecture == platform.machine()
    assert node.cpu_model
    assert node.cpu_threads == len(
        [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")]
    )
    assert 1 <= node.cpu_cores <= node.cpu_threads
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limited = any("control group" in note for note in node.notes)
    assert node.memory_bytes == physical or (limited and 0 < node.memory_bytes < physical)
    assert node.devices or any("no GPU found" in note for note in node.notes)
    assert driver.simulated is False
    assert driver.inventory() == driver.inventory()  # two looks at one machine are not a change


def test_what_it_finds_can_be_enrolled_and_travels_unchanged(driver: LocalDriver) -> None:
    nodes = driver.inventory().nodes
    check(SiteFacts("local", simulated=False), nodes)
    there = Enrolment("local", nodes, {"here": ("ctranslate2",)})
    body = orjson.dumps(enrolment_to_json(there))
    back = enrolment_from_json(orjson.loads(body))
    assert orjson.dumps(enrolment_to_json(back)) == body
    assert back.nodes[0].memory_bytes == nodes[0].memory_bytes


def test_the_name_is_the_hosts_unless_one_is_given() -> None:
    (node,) = LocalDriver(SystemClock()).inventory().nodes
    assert node.name == platform.node().split(".")[0].lower()


def test_a_captured_machine_of_another_architecture_is_described_as_such(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("processor : 0\n\nprocessor : 1\n")
    driver = LocalDriver(
        SystemClock(),
        name="captured",
        sys_root=tmp_path / "sys",
        proc_root=tmp_path / "proc",
        architecture="riscv64",
        classes=load_device_classes(),
    )
    (node,) = driver.inventory().nodes
    assert (node.architecture, node.cpu_model, node.cpu_threads) == ("riscv64", "unknown riscv64 CPU", 2)
    assert any("meminfo" in note for note in node.notes)
    assert driver.inventory().nodes == (node,)  # its notes too are those of one look


def test_it_starts_nothing_and_says_so(driver: LocalDriver) -> None:
    assert isinstance(driver, LocalDriver)
    as_driver: Driver = driver
    as_driver.validate({"anything": 1})
    refused = driver.ensure(Wanted("alc_1", 3, {}))
    assert (refused.phase, refused.code, refused.generation) == (Phase.FAILED, "unsupported", 3)
    assert driver.observe() == ()
    assert driver.remove("alc_1").phase is Phase.ABSENT
    assert driver.capabilities().kinds == frozenset()
