"""The page of drivers: the support table, derived from the classes, and what vLLM is started with on which device."""

import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from penstock.base.clock import SystemClock
from penstock.domain.device import load_device_classes
from penstock.drivers import vllm
from penstock.drivers.base import Driver
from penstock.drivers.contract import support_table
from penstock.drivers.ctranslate2.driver import CTranslate2Driver
from penstock.drivers.haproxy.driver import HaproxyDriver
from penstock.drivers.libvirt.driver import LibvirtDriver
from penstock.drivers.local.driver import LocalDriver
from penstock.drivers.nfs.driver import NfsVolumeDriver
from penstock.drivers.nftables.driver import NftablesNetworkDriver
from penstock.drivers.openai_compatible.driver import OpenAICompatibleDriver
from penstock.drivers.qcow2.driver import Qcow2VolumeDriver
from penstock.drivers.simulated.driver import SimulatedDriver
from penstock.drivers.simulated.site import parse_site
from penstock.drivers.vllm.driver import VllmDriver


class _NoImages:
    """Where no machine is started, no image is fetched."""

    def fetch(self, image_id: str, target: Path) -> None:
        """Fetch nothing."""
        raise NotImplementedError


@contextmanager
def every_driver() -> Iterator[list[Driver]]:
    """Make one of each driver, over nothing."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulated = SimulatedDriver(folder / "s", clock, parse_site("1x1:H100", load_device_classes()))
        yield [
            CTranslate2Driver(folder / "c", clock),
            HaproxyDriver(clock),
            LibvirtDriver(folder / "m", clock, _NoImages()),
            LocalDriver(clock),
            NfsVolumeDriver(folder / "n", clock, folder / "mounted"),
            NftablesNetworkDriver(clock),
            OpenAICompatibleDriver(folder / "o", clock, lambda _: None),
            simulated,
            Qcow2VolumeDriver(folder / "q", clock, folder / "volumes"),
            VllmDriver(folder / "v", clock),
        ]
        simulated.close()


def drivers_page(made: str) -> str:
    """Return docs/reference/drivers.md."""
    with every_driver() as drivers:
        rows = support_table(drivers)
    options = sorted(cast("dict[str, bool]", rows[0]["options"]))
    lines = [
        made,
        "# Drivers\n",
        "What each driver carries and which options its class implements. *Untested* is what was never run on the real thing.\n",
        f"| driver | kinds | simulated | {' | '.join(options)} | untested |",
        f"|---|---|---|{'---|' * len(options)}---|",
    ]
    for row in rows:
        has = cast("dict[str, bool]", row["options"])
        marks = " | ".join("yes" if has[option] else "" for option in options)
        kinds = ", ".join(cast("list[str]", row["kinds"])) or "-"
        untested = ", ".join(cast("list[str]", row["untested_on_hardware"]))
        lines.append(
            f"| `{row['driver']}` | {kinds} | {'yes' if row['simulated'] else ''} | {marks} | {untested} |"
        )
    lines += ["", "## vLLM by class of device\n", *_vllm_table()]
    return "\n".join(lines) + "\n"


def _vllm_table() -> list[str]:
    table = tomllib.loads((Path(vllm.__file__).parent / "arguments.toml").read_text("utf-8"))
    lines = [
        "| class | memory taken | bfloat16 | cache in 8 bits | devices by | also set |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in table.items():
        facts = {**table["default"], **row}
        shown = "all others" if name == "default" else name
        also = ", ".join(f"`{key}={value}`" for key, value in facts.get("environment", {}).items())
        flags = " | ".join("yes" if facts[flag] else "no" for flag in ("bfloat16", "fp8_cache"))
        visible = ", ".join(f"`{one}`" for one in facts["visible"])
        lines.append(f"| {shown} | {facts['memory_utilization_percent']} % | {flags} | {visible} | {also} |")
    return lines
