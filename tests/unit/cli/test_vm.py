"""The commands of machines, images and keys against a real API; no machine really starts."""

from pathlib import Path

from penstock.actions import agent as agent_actions
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Observed, Phase
from tests.support.command_line import CommandLine
from tests.support.infrastructure import query
from tests.support.machine_objects import SSH_KEY, make_host, qcow2, sha256_of
from tests.support.tenancy import Tenant

ANY_BYTES = bytes(range(256)) * 256  # as much as there may be, of every byte


class _Host:
    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.agent_id, _ = make_host(plane)

    def say(self, power: str, **detail: object) -> None:
        self.plane.services.tick()
        self.plane.vms.tick()
        for row in agent_actions.pull(self.plane.context, self.agent_id, 0, 0).allocations:
            phase = Phase.READY if row["wanted"] == "present" else Phase.ABSENT
            seen = Observed(row["id"], row["generation"], phase, detail={"power": power, **detail})
            agent_actions.push(self.plane.context, self.agent_id, [seen])
        self.plane.services.tick()


def test_a_machine_is_launched_used_and_terminated_by_commands(
    control_plane: ControlPlane, served: str, acme: Tenant, tmp_path: Path
) -> None:
    control_plane.seed()
    control_plane.keep_images_in(tmp_path / "images")
    host = _Host(control_plane)
    penstock = CommandLine(served, acme.member.key)
    _key_and_image(penstock, tmp_path)
    launch = (
        "vm",
        "launch",
        "web-1",
        "--image",
        "tiny",
        "--key",
        "laptop",
        "--tag",
        "role=web",
        "--disk",
        "2",
    )
    assert penstock(*launch, "--tag", "bad").exit_code == 2
    assert penstock(*launch, "--user-data", str(tmp_path / "none")).exit_code == 2
    for endless in (_of_a_megabyte(tmp_path), "/dev/zero"):
        told = penstock(*launch, "--user-data", endless)
        assert told.exit_code == 2
        assert f"--user-data: {endless} has more than 65536 bytes" in " ".join(told.stderr.split())
    vm = penstock.json(*launch, "--user-data", str(tmp_path / "setup.sh"))
    (kept,) = query(control_plane.context, "SELECT user_data FROM vm")
    assert bytes(kept["user_data"]) == ANY_BYTES, "byte for byte"
    assert (vm["state"], vm["tags"], vm["disk_gib"]) == ("provisioning", {"role": "web"}, 2)
    host.say("on")
    assert penstock.json("vm", "start", "web-1", "--wait")["state"] == "running"
    assert "web-1" in penstock("vm", "list", "--tag", "role=web").stdout
    assert "it runs as it is wanted" in penstock("vm", "show", "web-1").stdout
    assert penstock.json("vm", "tag", "web-1", "a=b")["tags"] == {"a": "b"}
    assert penstock("vm", "stop", "web-1", "--wait", "--timeout", "0").exit_code != 0
    host.say("off")
    assert penstock.json("vm", "stop", "web-1", "--wait")["state"] == "stopped"
    assert penstock("vm", "reboot", "web-1").exit_code == 3
    assert penstock.json("vm", "resize", "web-1", "--vcpus", "2")["vcpus"] == 2
    host.say("off")
    _snapshots(penstock, host)
    assert penstock("vm", "console", "web-1").exit_code == 0
    assert penstock("image", "delete", "tiny", "--yes").exit_code == 3
    assert penstock("vm", "terminate", "web-1", "--yes").exit_code == 0
    control_plane.services.tick()
    host.say("off")
    assert penstock.json("vm", "list", "--gone")["items"][0]["state"] == "terminated"
    assert penstock("image", "delete", "tiny", "--yes").exit_code == 0
    assert penstock("ssh-key", "delete", "laptop", "--yes").exit_code == 0


def _of_a_megabyte(folder: Path) -> str:
    file = folder / "much"
    file.write_bytes(b"x" * 1_000_000)
    return str(file)


def _key_and_image(penstock: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "id.pub").write_text(SSH_KEY)
    (tmp_path / "disk.qcow2").write_bytes(qcow2())
    (tmp_path / "setup.sh").write_bytes(ANY_BYTES)
    assert penstock.json("ssh-key", "add", "laptop", str(tmp_path / "id.pub"))["kind"] == "ssh-ed25519"
    assert penstock("ssh-key", "add", "x", str(tmp_path / "none")).exit_code == 2
    assert "laptop" in penstock("ssh-key", "list").stdout
    assert "AAAA" in penstock("ssh-key", "show", "laptop").stdout
    image = penstock.json(
        "image",
        "add",
        "tiny",
        str(tmp_path / "disk.qcow2"),
        "--sha256",
        sha256_of(qcow2()),
        "--description",
        "d",
    )
    assert image["state"] == "active"
    assert penstock("image", "add", "x", str(tmp_path / "none")).exit_code == 2
    assert "tiny" in penstock("image", "list").stdout
    assert "d" in penstock("image", "show", "tiny").stdout


def _snapshots(penstock: CommandLine, host: _Host) -> None:
    made = penstock.json("vm", "snapshot", "web-1", "one")
    host.say("off", snapshots={made["id"]: 5})
    assert "ready" in penstock("vm", "snapshots", "web-1").stdout
    assert penstock("vm", "restore", "web-1", "none", "--yes").exit_code == 2
    assert penstock("vm", "restore", "web-1", "one", "--yes").exit_code == 0
    host.say("off", snapshots={made["id"]: 5})
    assert penstock("vm", "delete-snapshot", "web-1", "one", "--yes").exit_code == 0


def test_a_volume_is_made_grown_and_deleted_by_commands(served: str, acme: Tenant) -> None:
    penstock = CommandLine(served, acme.member.key)
    made = penstock.json("volume", "create", "data", "--size", "2", "--encrypted", "--driver", "nfs")
    assert (made["state"], made["encrypted"], made["driver"]) == ("available", True, "nfs")
    assert penstock("volume", "create", "data", "--size", "2").exit_code != 0
    assert penstock.json("volume", "grow", "data", "--size", "3")["size_gib"] == 3
    assert penstock("volume", "grow", "data", "--size", "1").exit_code != 0
    assert "data" in penstock("volume", "list").stdout
    assert "no machine has it" in penstock("volume", "show", "data").stdout
    assert penstock("volume", "attach", "data", "nobody").exit_code != 0
    assert penstock.json("volume", "detach", "data")["state"] == "available"
    assert penstock("volume", "snapshot", "data", "one").exit_code != 0
    assert penstock("volume", "restore", "data", "one", "--yes").exit_code == 2
    assert penstock("volume", "snapshots", "data").exit_code == 0
    assert penstock("volume", "usage", "data").exit_code == 0
    assert penstock("volume", "delete", "data", "--yes").exit_code == 0
