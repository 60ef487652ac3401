"""The commands of knowledge bases and documents against a real API and a real embedding engine."""

from pathlib import Path

from penstock.control_plane import ControlPlane
from tests.support.command_line import CommandLine
from tests.support.commerce import make_market
from tests.support.knowledge import add_endpoint, work
from tests.support.tenancy import Tenant


def test_from_a_file_to_a_citation_to_a_proof(
    control_plane: ControlPlane, served: str, acme: Tenant, embedding_url: str, tmp_path: Path
) -> None:
    add_endpoint(make_market(control_plane), acme, "embedding", embedding_url)
    penstock = CommandLine(served, acme.member.key)
    made = penstock.json("knowledge-base", "create", "handbook", "--service", "embedding")
    assert made["model"] == "all-minilm-l6-v2"
    (tmp_path / "bees.md").write_text("# Bees\n\nBees make honey.")
    (added,) = penstock.json("document", "add", "handbook", str(tmp_path / "bees.md"))["items"]
    work(control_plane)
    assert penstock.json("document", "list", "handbook")["items"][0]["state"] == "ready"
    assert penstock.json("document", "show", added["id"])["media_type"] == "text/markdown"
    found = penstock.json("knowledge-base", "search", "handbook", "who makes honey?")["items"]
    assert (found[0]["document_name"], found[0]["heading"]) == ("bees.md", "Bees")
    assert "honey" in penstock("knowledge-base", "search", "handbook", "honey").stdout
    assert "queries" in penstock("knowledge-base", "usage", "handbook").stdout
    assert penstock.json("document", "reindex", added["id"])["version"] == 2
    gone = penstock.json("document", "delete", added["id"], "--yes")
    work(control_plane)
    assert penstock.json("knowledge-base", "proof", gone["proof_id"])["state"] == "signed"
    assert penstock.json("knowledge-base", "delete", "handbook", "--yes")["wanted"] == "deleted"
    work(control_plane)
    assert penstock.json("knowledge-base", "list")["items"] == []
    assert penstock("document", "fetch", "handbook", "https://example.org/").exit_code == 2
