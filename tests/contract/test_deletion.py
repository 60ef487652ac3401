"""Only an engine with the factory's key deletes: what is removed can always be proved with the key that is known."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from penstock.actions import deletion_proof as proof_actions
from penstock.base.clock import ManualClock
from penstock.base.errors import StartupError
from penstock.control_plane import ControlPlane
from tests.support.commerce import make_market
from tests.support.knowledge import add_endpoint, make_base, upload, work
from tests.support.tenancy import Tenant


@pytest.fixture
def replica(control_plane: ControlPlane, clock: ManualClock) -> Iterator[ControlPlane]:
    """Another engine over the same database, without the key."""
    plane = ControlPlane(control_plane.db.url, clock, connections=2)
    yield plane
    plane.close()


@pytest.fixture
def base(control_plane: ControlPlane, acme: Tenant) -> str:
    add_endpoint(make_market(control_plane), acme, "embedding", None)
    return make_base(acme.member, acme)


def test_an_engine_without_the_key_leaves_deletions_to_one_that_has_it(
    control_plane: ControlPlane, replica: ControlPlane, clock: ManualClock, acme: Tenant, base: str
) -> None:
    document = upload(acme.member, base, "a.txt", "one", "text/plain")["id"]
    proof = acme.member.request("DELETE", f"/v1/documents/{document}").json()["proof_id"]
    acme.member.request("DELETE", f"/v1/knowledge_bases/{base}")
    work(replica)
    assert acme.member.get(f"/v1/documents/{document}").json()["state"] == "deleting"
    assert acme.member.get(f"/v1/deletion_proofs/{proof}").json()["state"] == "pending"
    assert acme.member.get("/healthz").json()["deletions"] == "ok"
    clock.advance(timedelta(minutes=3))
    said = acme.member.get("/healthz")
    assert said.status_code == 200
    assert "2 wait for an engine that has the factory's signing key" in said.json()["deletions"]
    work(control_plane)
    signed = acme.member.get(f"/v1/deletion_proofs/{proof}").json()
    assert signed["state"] == "signed"
    assert signed["public_key"] == proof_actions.known_keys(control_plane.context)[0]
    assert acme.member.get(f"/v1/knowledge_bases/{base}").status_code == 404
    assert acme.member.get("/healthz").json()["deletions"] == "ok"


def test_a_replica_takes_a_copy_of_the_key_and_no_other(
    control_plane: ControlPlane, replica: ControlPlane, tmp_path: Path
) -> None:
    key = tmp_path / "keys" / "proof-signing.pem"
    known = proof_actions.known_keys(control_plane.context)
    copied = tmp_path / "copy.pem"
    copied.write_bytes(key.read_bytes())
    replica.sign_with(copied, owner=False)
    assert proof_actions.known_keys(replica.context) == known
    with pytest.raises(StartupError, match="is not there"):
        replica.sign_with(tmp_path / "absent.pem", owner=False)
    assert not (tmp_path / "absent.pem").exists()
    control_plane.sign_with(tmp_path / "new.pem", owner=True)
    now = proof_actions.known_keys(control_plane.context)
    assert now[1:] == known, "what was signed before can still be checked"
    with pytest.raises(StartupError, match="another key than this factory signs with"):
        replica.sign_with(copied, owner=False)


def test_a_factory_without_a_key_gets_one_from_its_first_replica(
    database_url: str, clock: ManualClock, tmp_path: Path
) -> None:
    plane = ControlPlane(database_url, clock, connections=2)
    try:
        assert proof_actions.known_keys(plane.context) == []
        plane.sign_with(tmp_path / "first.pem", owner=False)
        assert len(proof_actions.known_keys(plane.context)) == 1
    finally:
        plane.close()
