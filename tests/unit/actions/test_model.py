"""The model catalogue: the shipped model is honest about itself, others are checked before they are added."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from penstock.actions import model as model_actions
from penstock.actions.context import Context
from penstock.control_plane import ControlPlane
from penstock.drivers.ctranslate2.checkpoint import DEMO_MODEL_NAME, demo_model_dir
from tests.support.infrastructure import change, query
from tests.support.tenancy import Caller, Tenant


@pytest.fixture
def context(control_plane: ControlPlane) -> Context:
    return control_plane.context


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "another-model"
    shutil.copytree(demo_model_dir(), copy)
    return copy


def refused(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error["code"] == code
    return error


def test_shipped_model_is_seeded_once_as_a_demonstration(context: Context) -> None:
    first = model_actions.seed(context)
    before = query(context, "SELECT xmin::text FROM model")
    assert model_actions.seed(context) == first
    assert query(context, "SELECT xmin::text FROM model") == before
    (row, encoder) = query(context, "SELECT * FROM model ORDER BY kind DESC")
    assert (encoder["name"], encoder["kind"], encoder["dimensions"]) == ("all-minilm-l6-v2", "embedding", 384)
    assert (encoder["format"], encoder["demonstration"], encoder["licence"]) == ("bert", False, "Apache-2.0")
    assert (row["id"], row["name"], row["demonstration"]) == (first, DEMO_MODEL_NAME, True)
    assert row["engines"] == ["ctranslate2"]
    assert row["device_classes"][0] == "cpu"
    assert "H100" in row["device_classes"]
    assert "MI300X" not in row["device_classes"]
    assert row["size_bytes"] > 1_000_000
    assert len(row["sha256"]) == 64


def test_moved_installation_is_followed_and_a_retired_model_stays_retired(context: Context) -> None:
    model_actions.seed(context)
    change(context, "UPDATE model SET folder = '/somewhere/else', state = 'retired'")
    model_actions.seed(context)
    (row,) = query(context, "SELECT folder, state FROM model WHERE name = 'penstock-demo-5m'")
    assert (row["folder"], row["state"]) == (str(demo_model_dir()), "retired")


def test_operator_adds_lists_shows_and_retires_a_model(
    context: Context, operator: Caller, acme: Tenant, folder: Path
) -> None:
    made = operator.post("/v1/models", folder=str(folder), name="Another-1.0", licence="Apache-2.0")
    assert made.status_code == 201, made.text
    model = made.json()
    assert (model["name"], model["licence"], model["state"]) == ("Another-1.0", "Apache-2.0", "active")
    assert "folder" not in model
    seen = {**model, "approved": True}  # what needs no approval is approved
    assert acme.member.get(f"/v1/models/{model['id']}").json() == seen
    assert acme.member.get("/v1/models", name="Another-1.0").json()["items"] == [seen]
    refused(operator.post("/v1/models", folder=str(folder), name="Another-1.0"), 409, "conflict")
    refused(acme.admin.post(f"/v1/models/{model['id']}/retire"), 403, "forbidden")
    for _ in range(2):
        assert operator.post(f"/v1/models/{model['id']}/retire").json()["state"] == "retired"
    assert operator.get("/v1/models", state="active").json()["items"] == []
    actions = query(context, "SELECT action, outcome FROM audit ORDER BY id")
    assert [(row["action"], row["outcome"]) for row in actions] == [
        ("model.add", "done"),
        ("model.retire", "refused:forbidden"),
        ("model.retire", "done"),
    ]


def test_corrupt_or_missing_folder_is_named_and_adds_nothing(
    context: Context, operator: Caller, folder: Path
) -> None:
    with (folder / "model.bin").open("r+b") as file:
        file.seek(1_000)
        file.write(b"\xff\xff\xff\xff")
    error = refused(operator.post("/v1/models", folder=str(folder)), 422, "invalid_input")
    assert error["field"] == "model.bin"
    assert "corrupt" in error["message"]
    refused(operator.post("/v1/models", folder="relative/path"), 422, "invalid_input")
    refused(operator.post("/v1/models", folder="/nowhere/at/all"), 422, "invalid_input")
    refused(operator.post("/v1/models", folder=str(folder), name="no spaces"), 422, "invalid_input")
    assert query(context, "SELECT id FROM model") == []


def test_tenants_add_no_models(operator: Caller, acme: Tenant, folder: Path, client: TestClient) -> None:
    del operator
    refused(acme.admin.post("/v1/models", folder=str(folder)), 403, "forbidden")
    assert client.get("/v1/models").status_code == 401
