"""docs/guides/vms-and-networks.md as an operator and a tenant follow it: each command is run, or it says here why not.

Two hosts, their agents, the API and the command line are real; commands come from the guide itself, in its order.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from penstock.drivers.embedded_postgres.server import EmbeddedPostgres
from tests.fixtures.served import serving
from tests.support import guest_image
from tests.support.command_line import CommandLine
from tests.support.guests import Guest, Key, make_key
from tests.support.hypervisors import Fabric, Host
from tests.support.machine_site import MachineSite, machine_site
from tests.support.tenancy import make_tenant
from tests.support.waiting import until

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(400)]
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "vms-and-networks.md"
PROMPT = "ssh root@198.51.100.2"
# Beginnings of lines that are not run here, and why not.
LEFT_OUT = {
    "apt-get ": "the machine has it",
    "systemctl ": "the hosts of tests start their daemons by themselves",
    "virsh ": "the hosts of tests have a socket of their own",
    "ip link ": "the hosts of tests have a way outside",
    "qemu-img convert ": "the tiny guest is qcow2 already",
    "penstock image add debian-12 --url ": "tests/contract/test_image_fetch.py: it needs a server with a public address",
    "penstock image add golden ": "tests/flows/test_vm.py and tests/contract/test_vm_image.py",
    "penstock image share ": "tests/contract/test_image_fetch.py: whoever has two projects names one in each command",
    "penstock offer create lan ": "tests/flows/test_vm.py orders by such an offer",
    "penstock vm launch web-2 --offer lan ": "tests/flows/test_vm.py orders by such an offer",
}


def lines() -> list[str]:
    """Return the commands of the guide, in its order, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    whole = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for one in whole if (line := shlex.join(shlex.split(one, comments=True)))]


class Reader:
    """Somebody with a terminal on the factory, one on each host, and one outside."""

    def __init__(self, site: MachineSite, hosts: list[Host], home: Path, key: Key) -> None:
        self.site, self.hosts, self.home, self.key = site, hosts, home, key
        self.run: list[str] = []

    def follow(self, line: str) -> None:
        """Do what a line says; what is refused is tried again for a while, as a person would."""
        line = line.replace("~", str(self.home))
        if line.startswith("penstock agent join "):
            self._join(line)
        elif line == PROMPT:
            self.guest.wait()
            assert self.guest.run("hostname") == "web-1\n"
        else:
            assert line.startswith("penstock "), f"nobody knows how to try this: {line}"
            words, _, file = line.partition(" '>' ")
            said: list[str] = []

            def done() -> bool:
                result = CommandLine("")(*shlex.split(words)[1:])
                said.append(result.stdout + result.stderr)
                if file:
                    Path(file).write_text(result.stdout)
                return result.exit_code == 0

            until(done, lambda: f"{line}: {said[-1]} {self.site.said()}", 40)

    @property
    def guest(self) -> Guest:
        return Guest(self.site.fabric, PROMPT.rpartition("@")[2], self.key)

    def _join(self, line: str) -> None:
        host = self.hosts[len(self.site.agents)]
        agent = self.site.add_agent(host)
        agent.let_in(self.site.engine.url)
        line = line.replace("https://FACTORY:7072", self.site.engine.url).replace("qemu:///system", host.uri)
        line = line.replace(f"qemu+tls://hv{len(self.site.agents)}/system", host.arrivals)
        agent.start(*shlex.split(line)[2:], "--acceleration", "tcg")


@pytest.fixture
def reader(
    postgres: EmbeddedPostgres,
    machine_fabric: Fabric,
    hypervisor: Host,
    other_hypervisor: Host,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Reader]:
    url: str = postgres.template_url  # pyright: ignore[reportAttributeAccessIssue] - kept with the server it belongs to
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    for name in ("PENSTOCK_URL", "PENSTOCK_API_KEY", "PENSTOCK_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    key = make_key(home / ".ssh", "id_ed25519")
    with ExitStack() as stack:
        site = stack.enter_context(machine_site(url, machine_fabric, [], tmp_path, "test_guide"))
        monkeypatch.chdir(home)
        for name in ("debian-12.qcow2", "my-image.qcow2"):
            shutil.copyfile(guest_image.tiny_image(), home / name)
        tenant = make_tenant(site.plane, site.client, "acme")
        api = stack.enter_context(serving(site.plane))
        for name, caller in (("operator", site.operator), ("demo", tenant.admin)):
            result = CommandLine("")(
                "context", "add", name, "--url", api, "--ask-key", given=f"{caller.key}\n"
            )
            assert result.exit_code == 0, result.output
        yield Reader(site, [hypervisor, other_hypervisor], home, key)


def test_from_a_bare_host_to_a_tenants_prompt(reader: Reader) -> None:
    unused = dict(LEFT_OUT)
    for line in lines():
        left_out = [start for start in LEFT_OUT if line.startswith(start)]
        if left_out:
            unused.pop(left_out[0], None)
        else:
            reader.follow(line)
            reader.run.append(line)
    assert unused == {}, "what is left out stands in the guide"
    assert PROMPT in reader.run, "the prompt is reached"
    assert reader.guest.answers(), "and still there at the guide's end"
