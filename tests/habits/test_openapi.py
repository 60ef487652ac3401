"""The committed OpenAPI document is the one the code makes."""

from pathlib import Path

from penstock.api import openapi

COMMITTED = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"


def test_the_committed_document_is_up_to_date() -> None:
    assert COMMITTED.read_text("utf-8") == openapi.text(), (
        "run `make openapi` and commit docs/reference/openapi.json"
    )


def test_every_operation_says_who_may_call_it() -> None:
    assert '"security"' in openapi.text()
    assert all(reason for reason in openapi.OPEN.values())
