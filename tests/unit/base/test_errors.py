"""Errors: stable codes, never used twice, and a sentence for a person."""

import ast
import gc
from pathlib import Path

import pytest

import penstock
from penstock.base.errors import InvalidInputError, PenstockError, error_classes

PACKAGE = Path(penstock.__file__).parent


def declared_codes(source: str) -> list[str]:
    """Return the code of every class named ``...Error`` in a module's source."""
    codes: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef) or not node.name.endswith("Error"):
            continue
        for statement in node.body:
            if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
                continue
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(target, ast.Name) and target.id == "code" for target in targets):
                assert isinstance(statement.value, ast.Constant), f"{node.name}: a code is a literal"
                codes.append(str(statement.value.value))
    return codes


def test_every_code_in_the_package_is_used_once() -> None:
    codes = [c for path in sorted(PACKAGE.rglob("*.py")) for c in declared_codes(path.read_text("utf-8"))]
    assert len(codes) >= 13
    assert sorted(set(codes)) == sorted(codes)


def test_codes_are_lower_case_words() -> None:
    for code in error_classes():
        assert code.replace("_", "").isalpha(), code
        assert code == code.lower(), code


def test_every_error_has_an_http_status_of_a_refusal_and_a_docstring() -> None:
    for error in error_classes().values():
        assert 400 <= error.status <= 599, error
        assert error.__doc__, error


def test_a_code_used_twice_is_found() -> None:
    class ReusesError(PenstockError):
        """Planted: takes the code of another error."""

        code = "invalid_input"

    try:
        with pytest.raises(AssertionError, match="invalid_input"):
            error_classes()
    finally:
        del ReusesError
        gc.collect()  # or the planted class would be found by the next test in this process
    assert error_classes()["invalid_input"] is InvalidInputError


def test_a_subclass_without_a_code_of_its_own_is_found() -> None:
    class ForgotError(InvalidInputError):
        """Planted: inherits its parent's code."""

    try:
        with pytest.raises(AssertionError, match="used twice"):
            error_classes()
    finally:
        del ForgotError
        gc.collect()


def test_an_error_keeps_its_parts_and_prints_only_the_public_sentence() -> None:
    error = InvalidInputError("too many", field="spec.count", internal="row 7", data={"limit": 72})
    assert (error.sentence, error.field, error.internal, error.data) == (
        "too many",
        "spec.count",
        "row 7",
        {"limit": 72},
    )
    assert str(error) == "too many"


def test_two_errors_do_not_share_their_data() -> None:
    first, second = PenstockError("a"), PenstockError("b")
    first.data["x"] = 1
    assert second.data == {}
