"""What the documents say about the code is what the code says, and every state can be explained to a person."""

import subprocess
import sys
from enum import StrEnum

import pytest

from penstock.base.errors import error_classes
from tests.habits.sources import ROOT, allowed
from tests.habits.test_code import no_violations
from tools import reference


def incomplete(name: str, kind: type[StrEnum], table: dict[StrEnum, str]) -> list[str]:
    """Return a sentence for each value of ``kind`` that ``table`` does not explain; ``none`` needs no words."""
    return [
        f"{name}: write a sentence for {value!r}"
        for value in kind
        if value not in table or (not table[value].strip() and value.value != "none")
    ]


def test_made_pages_are_up_to_date() -> None:
    no_violations(
        [
            f"{path} no longer says what the code says: run 'make reference' and commit it"
            for path, text in reference.pages().items()
            if not (ROOT / path).exists() or (ROOT / path).read_text() != text
        ]
    )


def test_every_state_and_reason_has_a_sentence() -> None:
    tables = reference.tables_of_sentences()
    assert {"penstock.domain.service.STATE_SENTENCES", "penstock.domain.claim.REFUSAL_SENTENCES"} <= set(
        tables
    )
    no_violations(
        [
            sentence
            for name, (kind, table) in tables.items()
            for sentence in incomplete(name, kind, dict(table))
        ]
    )


def test_a_state_without_sentence_is_found() -> None:
    class Colour(StrEnum):
        NONE = "none"
        RED = "red"
        BLUE = "blue"

    full: dict[StrEnum, str] = {Colour.NONE: "", Colour.RED: "stop", Colour.BLUE: "unusual"}
    assert incomplete("X", Colour, full) == []
    assert len(incomplete("X", Colour, {Colour.NONE: "", Colour.RED: " "})) == 2


def test_error_codes_are_stable_and_documented() -> None:
    list(reference.modules())
    known = error_classes()  # raises if a code is used twice
    page = (ROOT / "docs/reference/errors.md").read_text()
    retired = allowed("retired_error_codes")
    no_violations(
        [
            f"{code}: run 'make reference', the code is not documented"
            for code in known
            if f"`{code}`" not in page
        ]
        + [
            f"{code}: choose a new code, this one was used for something else"
            for code in known
            if code in retired
        ]
        + [f"{code}: write the class a docstring" for code, error in known.items() if not error.__doc__]
    )


def test_a_code_used_twice_is_found() -> None:
    code = (
        "from penstock.base.errors import PenstockError, error_classes\n"
        "class AError(PenstockError): code = 'planted'\n"
        "class BError(PenstockError): code = 'planted'\n"
        "error_classes()\n"
    )
    # In a process of its own: a class with subclasses remembers them, and the pages are made from that memory.
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert "error code planted is used twice" in done.stderr


def test_the_readme_quotes_only_measured_figures() -> None:
    text = f"before\n{reference.FIGURES_BEGIN}\n1,000,000 a second\n{reference.FIGURES_END}\nafter\n"
    assert "1,000,000" not in reference.readme(text, None)
    measured = {
        "machine": {"cpu": "X", "cores": 2, "python": "3.11"},
        "commits": {"orders": "abc"},
        "figures": [{"label": "orders a second", "value": 150.5, "must": 50, "peer": "Y: 15"}],
    }
    made = reference.readme(text, measured)
    assert "| orders a second | 150.5 | 50 |  |  | Y: 15 |" in made
    assert made.startswith("before\n")
    assert made.endswith("after\n")
    with pytest.raises(ValueError, match="needs the lines"):
        reference.readme("no block", None)
