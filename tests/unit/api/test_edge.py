"""What every endpoint shares: strict bodies, JSON of our own values, pages, and a credential from its header."""

from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from penstock.api.edge import Strict, answer, page
from penstock.base.errors import InvalidInputError
from penstock.control_plane import ControlPlane
from penstock.domain.role import Role
from tests.support.tenancy import make_caller


class Body(Strict):
    count: int
    name: str = ""


def test_a_text_that_cannot_be_stored_is_refused_by_its_field() -> None:
    with pytest.raises(InvalidInputError) as caught:
        Body.model_validate({"count": 1, "name": "a\x00b"})
    assert caught.value.field == "name"


@dataclass(frozen=True)
class Piece:
    size: int


@pytest.mark.parametrize("body", [{"count": "1"}, {"count": 1, "cuont": 2}, {"count": True}, {}])
def test_a_body_is_taken_as_it_is_meant_or_not_at_all(body: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Body.model_validate(body)


def test_instants_end_with_a_z_and_sets_have_an_order() -> None:
    at = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
    document = orjson.loads(answer({"at": at, "set": frozenset("cab"), "piece": Piece(3)}, 201).body)
    assert document == {"at": "2026-11-01T12:00:00Z", "set": ["a", "b", "c"], "piece": {"size": 3}}


def test_a_value_nobody_thought_of_is_a_defect_and_not_a_guess() -> None:
    with pytest.raises(TypeError):
        answer({"what": object()})


def test_a_page_knows_a_next_only_if_there_is_more() -> None:
    rows = [{"id": f"svc_{n}"} for n in range(3)]
    assert orjson.loads(page(rows, 3).body) == {"items": rows, "next": None}
    assert orjson.loads(page(rows, 2).body) == {"items": rows[:2], "next": "svc_1"}
    assert orjson.loads(page([], 2).body) == {"items": [], "next": None}


def test_only_a_bearer_credential_counts_whatever_the_case_of_the_word(
    control_plane: ControlPlane, client: TestClient
) -> None:
    who = make_caller(control_plane, client, "op@edge.test", Role.OPERATOR, kind="user")
    key = who.key
    codes = {
        header: client.get("/v1/whoami", headers={"authorization": header}).status_code
        for header in (f"Bearer {key}", f"bearer   {key} ", f"Basic {key}", key, "Bearer", "")
    }
    assert list(codes.values()) == [200, 200, 401, 401, 401, 401]


def test_a_character_that_cannot_be_stored_is_refused_also_in_an_address(client: TestClient) -> None:
    answered = client.get("/v1/services?name=a%00b")
    assert answered.status_code == 422
    assert answered.json()["error"]["field"] == "name"
