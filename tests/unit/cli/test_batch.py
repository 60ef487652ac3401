"""The commands of batches and secrets against a real API; the gateway is simulated."""

import json
from pathlib import Path
from typing import Any

from penstock.control_plane import ControlPlane
from penstock.engine.batch import BatchEngine
from tests.support.batches import SimulatedGateway, jsonl, request_line
from tests.support.command_line import CommandLine
from tests.support.commerce import make_market
from tests.support.knowledge import TEXT_MODEL, add_endpoint
from tests.support.tenancy import Tenant


def test_from_a_file_to_its_answers(
    control_plane: ControlPlane, served: str, acme: Tenant, tmp_path: Path
) -> None:
    control_plane.seal_with(tmp_path / "secrets.key")
    add_endpoint(make_market(control_plane), acme, "writer", "http://127.0.0.1:1", TEXT_MODEL)
    context: Any = control_plane.context
    gateway: Any = SimulatedGateway()
    engine = BatchEngine(
        control_plane.db,
        control_plane.clock,
        control_plane.wakeups,
        context.vault,
        gateway_url=lambda: "http://gateway",
        client=gateway,
    )
    penstock = CommandLine(served, acme.member.key)
    (tmp_path / "requests.jsonl").write_bytes(jsonl([request_line("a"), request_line("b")]))
    made = penstock.json("batch", "run", str(tmp_path / "requests.jsonl"))
    assert made["status"] == "validating"
    early = penstock("batch", "output", made["id"])
    assert (early.exit_code, "no such file" in early.stderr) == (2, True)
    while engine.tick():
        pass
    engine.close()
    assert penstock.json("batch", "show", made["id"])["request_counts"]["completed"] == 2
    assert [one["id"] for one in penstock.json("batch", "list")["items"]] == [made["id"]]
    lines = penstock("batch", "output", made["id"]).stdout.splitlines()
    assert [json.loads(line)["custom_id"] for line in lines] == ["a", "b"]
    assert penstock("batch", "cancel", made["id"]).exit_code == 3
    waiting = penstock("batch", "run", str(tmp_path / "requests.jsonl"), "--wait", "--timeout", "0")
    assert waiting.exit_code == 3


def test_a_secret_comes_from_a_file_and_is_never_shown(
    control_plane: ControlPlane, served: str, acme: Tenant, tmp_path: Path
) -> None:
    control_plane.seal_with(tmp_path / "secrets.key")
    penstock = CommandLine(served, acme.member.key)
    (tmp_path / "key.txt").write_text("sk-very-secret\n")
    made = penstock("secret", "put", "other", "--file", str(tmp_path / "key.txt"))
    assert (made.exit_code, "sk-very" in made.stdout + made.stderr) == (0, False)
    assert [one["name"] for one in penstock.json("secret", "list")["items"]] == ["other"]
    missing = penstock("secret", "put", "other", "--file", str(tmp_path / "nothing"))
    assert missing.exit_code == 2
    assert penstock("secret", "delete", "other", "--yes").exit_code == 0
    assert penstock.json("secret", "list")["items"] == []
