"""A retrieval set made from documentation that every machine with Python has: the docstrings of its standard library.

The recipe: each docstring with a summary and at least 120 characters after it becomes a section, under a heading that
says nothing of it ("Part 17 of shutil"), and *without its summary*. The summary of 5 to 30 words, where no other
docstring has the same, is the question; its section is gold. So neither the heading nor the text repeats the question:
a search must find the details by what they describe. Sections of modules with one first letter are one HTML document.
"""

import ast
import html
import math
import random
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DETAIL_CHARACTERS_MIN = 120
QUESTION_WORDS = range(5, 31)
# Tests, and folders that hold code of others.
LEFT_OUT = frozenset({"test", "tests", "site-packages", "idlelib", "lib2to3", "turtledemo", "ensurepip"})
BM25_K1, BM25_B = 1.2, 0.75


@dataclass(frozen=True, slots=True)
class Section:
    """What one docstring says after its summary; ``heading`` is how a search names it."""

    module: str
    heading: str
    summary: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A summary, and the heading of the section it was taken from."""

    text: str
    gold: str


def sections(root: Path | None = None) -> list[Section]:
    """Return the sections of a library's folder (by default of this Python's standard library), in a fixed order."""
    folder = root or Path(sysconfig.get_path("stdlib"))
    found: list[Section] = []
    counts: Counter[str] = Counter()
    for file in sorted(folder.rglob("*.py")):
        relative = file.relative_to(folder)
        if LEFT_OUT & set(relative.parts):
            continue
        module = relative.parts[0].removesuffix(".py")
        for summary, text in _docstrings(file):
            counts[module] += 1
            found.append(Section(module, f"Part {counts[module]} of {module}", summary, text))
    return found


def _docstrings(file: Path) -> Iterator[tuple[str, str]]:
    """Yield summary and details of each docstring that has both."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        summary, _, details = (ast.get_docstring(node) or "").partition("\n\n")
        if len(details.strip()) >= DETAIL_CHARACTERS_MIN:
            yield " ".join(summary.split()), details.strip()


def questions(found: Sequence[Section], count: int, seed: int) -> list[Question]:
    """Return ``count`` questions drawn from the sections whose summary can be one."""
    often = Counter(section.summary for section in found)
    able = [
        Question(section.summary, section.heading)
        for section in found
        if len(section.summary.split()) in QUESTION_WORDS and often[section.summary] == 1
    ]
    return random.Random(seed).sample(able, min(count, len(able)))  # noqa: S311 - a reproducible choice, not a secret


def documents(found: Sequence[Section]) -> dict[str, str]:
    """Return HTML documents by name, one for each first letter of modules."""
    parts: dict[str, list[str]] = defaultdict(list)
    for section in found:
        parts[section.module.lstrip("_")[0].lower()].append(
            f"<h2>{section.heading}</h2>\n<pre>{html.escape(section.text)}</pre>\n"
        )
    return {f"{letter}.html": f"<html><body>{''.join(own)}</body></html>" for letter, own in parts.items()}


class Bm25:
    """Okapi BM25 over bags of words, exact and in memory: what full-text search is measured beside."""

    def __init__(self, bags: Sequence[Mapping[str, int]]) -> None:
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._lengths = [sum(bag.values()) for bag in bags]
        self._mean = sum(self._lengths) / max(1, len(bags))
        for index, bag in enumerate(bags):
            for word, count in bag.items():
                self._postings[word].append((index, count))

    def best(self, words: Sequence[str], most: int) -> list[int]:
        """Return the indexes of the ``most`` best bags, best first."""
        scores: dict[int, float] = defaultdict(float)
        total = len(self._lengths)
        for word in set(words):
            posted = self._postings.get(word, [])
            weight = math.log(1 + (total - len(posted) + 0.5) / (len(posted) + 0.5))
            for index, count in posted:
                norm = BM25_K1 * (1 - BM25_B + BM25_B * self._lengths[index] / self._mean)
                scores[index] += weight * count * (BM25_K1 + 1) / (count + norm)
        return sorted(scores, key=lambda index: (-scores[index], index))[:most]


def place_of(gold: str, headings: Sequence[str | None]) -> int | None:
    """Return the place (from 1) of the first passage of the gold section, None if it is not there."""
    return next((place for place, heading in enumerate(headings, start=1) if heading == gold), None)


def quality(places: Sequence[int | None]) -> dict[str, float]:
    """Return recall at 5 and at 10, and the mean reciprocal rank within the first ten."""
    count = len(places)
    return {
        "recall_at_5": round(sum(place is not None and place <= 5 for place in places) / count, 4),
        "recall_at_10": round(sum(place is not None and place <= 10 for place in places) / count, 4),
        "mrr_at_10": round(
            sum(1 / place for place in places if place is not None and place <= 10) / count, 4
        ),
    }
