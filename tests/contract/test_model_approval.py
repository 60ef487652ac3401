"""Models with a licence that not every tenant has: who may order them, who says so, and what is written about it."""

from pathlib import Path
from typing import Any

import pytest

from penstock.control_plane import ControlPlane
from tests.support.commerce import make_market
from tests.support.simulated_vllm import make_checkpoint
from tests.support.tenancy import Caller, Tenant


@pytest.fixture
def gated(control_plane: ControlPlane, operator: Caller, tmp_path: Path) -> dict[str, Any]:
    """A model that needs approval."""
    make_market(control_plane)
    answer = operator.post(
        "/v1/models",
        folder=str(make_checkpoint(tmp_path / "big")),
        licence="LLAMA-3.1",
        licence_text="You may use it if ...",
        origin="https://example.org/big",
        needs_approval=True,
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


def order(tenant: Tenant) -> Any:
    spec = {"model": "big", "device_class": "GB200"}
    return tenant.member.post("/v1/services", offer="llm", project=tenant.project_id, spec=spec)


def test_only_an_approved_tenant_may_order(
    gated: dict[str, Any], operator: Caller, acme: Tenant, globex: Tenant
) -> None:
    refused = order(acme)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_approved")
    assert (refused.json()["error"]["field"], refused.json()["error"]["data"]) == (
        "spec.model",
        {"models": ["big"]},
    )
    assert "penstock model show big" in refused.json()["error"]["message"]
    path = f"/v1/models/{gated['id']}/approvals/{acme.id}"
    assert acme.admin.put(path).status_code == 403
    first = operator.put(path, note="contract of May").json()
    assert operator.put(path, note="again").status_code == 200
    assert (first["tenant_id"], first["note"]) == (acme.id, "contract of May")
    assert order(acme).status_code == 202
    assert order(globex).status_code == 403
    listed = operator.get(f"/v1/models/{gated['id']}/approvals").json()["items"]
    assert [(one["tenant_id"], one["note"]) for one in listed] == [(acme.id, "contract of May")]
    assert operator.delete(path).status_code == 204
    assert operator.delete(path).status_code == 204
    assert order(acme).status_code == 403


def test_everybody_reads_the_terms_and_his_own_approval(
    gated: dict[str, Any], operator: Caller, acme: Tenant, globex: Tenant
) -> None:
    operator.put(f"/v1/models/{gated['id']}/approvals/{acme.id}")
    mine = acme.member.get(f"/v1/models/{gated['id']}").json()
    assert {
        name: mine[name] for name in ("licence", "licence_text", "origin", "needs_approval", "approved")
    } == {
        "licence": "LLAMA-3.1",
        "licence_text": "You may use it if ...",
        "origin": "https://example.org/big",
        "needs_approval": True,
        "approved": True,
    }
    assert globex.member.get(f"/v1/models/{gated['id']}").json()["approved"] is False
    assert operator.get(f"/v1/models/{gated['id']}").json()["approved"] is None
    assert globex.member.get(f"/v1/models/{gated['id']}/approvals").json()["items"] == []
    (own,) = acme.member.get(f"/v1/models/{gated['id']}/approvals").json()["items"]
    assert own["tenant_id"] == acme.id


def test_approvals_and_refusals_are_in_the_trail(
    gated: dict[str, Any], operator: Caller, acme: Tenant
) -> None:
    order(acme)
    operator.put(f"/v1/models/{gated['id']}/approvals/{acme.id}", note="contract of May")
    operator.delete(f"/v1/models/{gated['id']}/approvals/{acme.id}")
    trail = [(one["action"], one["outcome"]) for one in operator.get("/v1/audit").json()["items"]]
    assert ("service.order", "refused:model_not_approved") in trail
    assert {("model.approve", "done"), ("model.withdraw", "done")} <= set(trail)
    kinds = [one["kind"] for one in acme.admin.get("/v1/events").json()["items"]]
    assert {"model.approved", "model.approval_withdrawn"} <= set(kinds)


@pytest.mark.parametrize(("model", "tenant"), [("mdl_" + "0" * 26, None), (None, "ten_" + "0" * 26)])
def test_what_is_not_there_cannot_be_approved(
    gated: dict[str, Any], operator: Caller, acme: Tenant, model: str | None, tenant: str | None
) -> None:
    answer = operator.put(f"/v1/models/{model or gated['id']}/approvals/{tenant or acme.id}")
    assert answer.status_code == 404
