"""The commands of knowledge bases and documents against a real API and a real embedding engine."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from penstock.control_plane import ControlPlane
from tests.support.command_line import CommandLine
from tests.support.commerce import make_market
from tests.support.knowledge import add_endpoint, work
from tests.support.tenancy import Tenant


def test_from_a_file_to_a_citation_to_a_proof(
    control_plane: ControlPlane, served: str, acme: Tenant, embedding_url: str, tmp_path: Path
) -> None:
    market = make_market(control_plane)
    add_endpoint(market, acme, "embedding", embedding_url)
    add_endpoint(market, acme, "writer", None)
    penstock = CommandLine(served, acme.member.key)
    made = penstock.json("knowledge-base", "create", "handbook", "--service", "embedding")
    assert made["model"] == "all-minilm-l6-v2"
    (tmp_path / "bees.md").write_text("# Bees\n\nBees make honey.")
    (added,) = penstock.json("document", "add", "handbook", str(tmp_path / "bees.md"))["items"]
    work(control_plane)
    assert penstock.json("document", "list", "handbook")["items"][0]["state"] == "ready"
    wait_for_it = ("document", "add", "handbook", str(tmp_path / "wasps.md"), "--wait")
    (tmp_path / "wasps.md").write_text("Wasps make paper.")
    late = penstock(*wait_for_it, "--timeout", "0")
    assert (late.exit_code, "wasps.md is still 'pending" in late.stderr) == (3, True)
    with ThreadPoolExecutor(1) as engine:  # what is there already is not uploaded twice, only waited for
        engine.submit(work, control_plane)
        (again,) = penstock.json(*wait_for_it)["items"]
    assert (again["state"], again["version"]) == ("ready", 1)
    assert penstock.json("document", "show", added["id"])["media_type"] == "text/markdown"
    found = penstock.json("knowledge-base", "search", "handbook", "who makes honey?")["items"]
    assert (found[0]["document_name"], found[0]["heading"]) == ("bees.md", "Bees")
    assert "honey" in penstock("knowledge-base", "search", "handbook", "honey").stdout
    asked = ("knowledge-base", "ask", "handbook", "zebra quantum lasagne?", "--service", "writer")
    assert penstock(*asked).stdout.startswith("No answer found")  # the answer is what the command prints
    assert penstock.json(*asked)["citations"] == []
    assert "queries" in penstock("knowledge-base", "usage", "handbook").stdout
    assert penstock.json("document", "reindex", added["id"])["version"] == 2
    gone = penstock.json("document", "delete", added["id"], "--yes")
    work(control_plane)
    assert penstock.json("knowledge-base", "proof", gone["proof_id"])["state"] == "signed"
    assert penstock.json("knowledge-base", "delete", "handbook", "--yes")["wanted"] == "deleted"
    work(control_plane)
    assert penstock.json("knowledge-base", "list")["items"] == []
    assert penstock("document", "fetch", "handbook", "https://example.org/").exit_code == 2
