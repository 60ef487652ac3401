"""The operator's commands about hardware, models and agents, against a real API."""

from pathlib import Path

import pytest

from penstock.actions import join_token as join_token_actions
from penstock.actions import model as model_actions
from penstock.actions import weights as weights_actions
from penstock.control_plane import ControlPlane
from penstock.domain.weights import Copy, WeightsState
from penstock.drivers.ctranslate2.checkpoint import demo_model_dir
from tests.support.command_line import CommandLine
from tests.support.infrastructure import add_allocation, add_service, change, enroll
from tests.support.llama import Llama
from tests.support.tenancy import Caller


@pytest.fixture
def penstock(served: str, operator: Caller, control_plane: ControlPlane) -> CommandLine:
    """The operator's command line on a factory with one simulated site."""
    control_plane.seed()
    enroll(control_plane.context, ["n1", "n2"])
    return CommandLine(served, operator.key)


def test_sites_racks_and_feeds(penstock: CommandLine) -> None:
    (site,) = penstock.json("site", "list")["items"]
    assert penstock.json("site", "show", "sim")["id"] == site["id"]
    (rack,) = penstock.json("site", "racks", "--site", "sim")["items"]
    assert (rack["devices"], rack["simulated"]) == (8, True)
    (feed,) = penstock.json("site", "feeds")["items"]
    assert penstock.json("site", "set-feed", feed["id"], "--watts", "132000")["budget_watts"] == 132_000
    assert "132,000" in penstock("site", "racks").stdout


def test_nodes_are_shown_with_devices_and_work(penstock: CommandLine, control_plane: ControlPlane) -> None:
    context = control_plane.context
    (node,) = [n for n in penstock.json("node", "list", "--site", "sim")["items"] if n["name"] == "n1"]
    add_service(context, "svc_1")
    add_allocation(context, "svc_1", node["id"], node["agent_id"])
    shown = penstock("node", "show", "n1").stdout
    assert "made up by a test" in shown
    assert "952 GiB" in shown
    assert shown.count("GB200") == 5
    assert "svc_1" in shown
    assert penstock.json("node", "show", "n1")["devices_total"] == 4
    assert penstock.json("node", "cordon", "n1")["cordoned"] is True
    assert penstock.json("node", "uncordon", "n1")["cordoned"] is False
    refused = penstock("node", "retire", "n1", "--yes")
    assert refused.exit_code == 3
    assert "write it off first" in refused.stderr
    assert penstock("node", "retire", "n2").exit_code == 2, "it asks before what cannot be undone"
    assert penstock.json("node", "retire", "n2", "--yes")["state"] == "retired"
    change(context, "UPDATE node SET state = 'unreachable' WHERE name = 'n1'")
    assert penstock.json("node", "write-off", "n1", "--yes")["state"] == "unreachable"
    assert "another process" in penstock("node", "fail", "n1").stderr
    assert penstock("node", "heal", "n1").exit_code == 3


def test_devices_classes_and_capacity(penstock: CommandLine) -> None:
    devices = penstock.json("device", "list", "--node", "n1", "--class", "GB200", "--health", "ok")["items"]
    assert len(devices) == 4
    assert penstock.json("device", "show", devices[0]["id"]) == devices[0]
    assert "MI300X" in penstock("device", "classes").stdout
    assert penstock.json("device", "capacity")["simulated_devices"] == 8
    line = penstock("device", "capacity").stdout.splitlines()[1].split()
    assert line[:6] == ["GB200", "yes", "8", "0", "8", "0"]


def test_models_are_added_shown_and_retired(penstock: CommandLine, control_plane: ControlPlane) -> None:
    model_actions.seed(control_plane.context)
    shown = penstock("model", "show", "penstock-demo-5m").stdout
    assert "Demonstration" in shown
    assert "yes" in shown
    made = penstock.json("model", "add", str(demo_model_dir()), "--name", "again", "--licence", "mine")
    assert made["licence"] == "mine"
    assert penstock.json("model", "retire", "again", "--yes")["state"] == "retired"
    assert len(penstock.json("model", "list")["items"]) == 3
    missing = penstock("model", "add", str(Path("/nowhere")))
    assert missing.exit_code == 3
    assert "/nowhere" in missing.stderr


def test_a_token_is_alone_on_standard_output(penstock: CommandLine, control_plane: ControlPlane) -> None:
    join_token_actions.announce_listener(
        control_plane.context, url="https://factory.test:7402", ca_sha256="ab" * 32
    )
    made = penstock("agent", "token")
    assert made.stdout.startswith("pjt_")
    assert len(made.stdout.split()) == 1
    assert "https://factory.test:7402" in made.stderr
    (row,) = penstock.json("agent", "tokens")["items"]
    assert made.stdout.strip().split(".")[1] not in str(row)
    assert penstock.json("agent", "revoke-token", row["id"])["state"] == "ended"
    assert penstock.json("agent", "token", "--hours", "2")["state"] == "valid"


def test_agents_are_listed_and_those_inside_stay(penstock: CommandLine) -> None:
    (agent,) = penstock.json("agent", "list")["items"]
    assert (agent["transport"], agent["nodes"]) == ("in_process", 2)
    assert "in_process" in penstock("agent", "show", "sim").stdout
    refused = penstock("agent", "revoke", "sim", "--yes")
    assert refused.exit_code == 3
    assert "part of this factory" in refused.stderr


def test_copies_of_weights_are_listed_and_pruned(penstock: CommandLine, control_plane: ControlPlane) -> None:
    made = enroll(control_plane.context, ["w1"], agent="w", site="w")
    copies = [Copy(digest * 64, WeightsState.HELD, 1 << 30, 1 << 30, in_use=digest == "a") for digest in "ab"]
    weights_actions.take(control_plane.context, made.agent_id, copies)
    assert len(penstock.json("weights", "list", "--node", "w1")["items"]) == 2
    assert "1.0 GiB" in penstock("weights", "list").stdout
    assert "1 copies go" in penstock("weights", "prune", "--node", "w1", "--yes").stderr
    assert weights_actions.take(control_plane.context, made.agent_id, copies) == ["b" * 64]
    assert penstock("weights", "list", "--model", "none").exit_code == 3


def test_a_checkpoint_is_converted_here_and_added_there(penstock: CommandLine, tmp_path: Path) -> None:
    folder = Llama.random().save(tmp_path / "hf")
    made = penstock.json("model", "convert", str(folder), str(tmp_path / "own"))
    assert (made["name"], made["quantization"], made["context_tokens"]) == ("hf", "int8", 256)
    assert penstock.json("model", "add", str(tmp_path / "own"), "--name", "own")["engines"] == ["ctranslate2"]
    again = penstock("model", "convert", str(folder), str(tmp_path / "own"))
    assert (again.exit_code, "is there already" in again.stderr) == (2, True)
    (folder / "config.json").write_text('{"model_type": "gemma3"}')
    refused = penstock("model", "convert", str(folder), str(tmp_path / "other"))
    assert (refused.exit_code, "Llama family" in refused.stderr) == (2, True)
