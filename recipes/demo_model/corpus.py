"""The training text of the demonstration model: Python's own documentation and our short conversations.

Sources: the docstrings of the standard library's modules, classes and functions, and the language reference
that ships as ``pydoc_data.topics``. Both are part of the Python distribution, whose licence is the PSF
licence version 2 (https://docs.python.org/3/license.html). Nothing is downloaded.
"""

import ast
import hashlib
import random
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data import topics

from recipes.demo_model import chat

END_OF_TEXT = "<|endoftext|>"
DOCSTRING_CHARACTERS = range(30, 1_200)
CONVERSATIONS = 6_000
HELD_OUT_EVERY = 50
_ASKS = ("What does {} do?", "Explain {}.", "How do I use {}?", "What is {}?")
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents to train on, documents held out to measure on, and a checksum of all of them."""

    training: list[str]
    held_out: list[str]
    sha256: str
    python_version: str


def _docstrings(library: Path) -> Iterator[tuple[str, str]]:
    """Yield (dotted name, docstring) of everything documented under ``library``, in a fixed order."""
    for path in sorted(library.rglob("*.py")):
        relative = path.relative_to(library)
        if _SKIPPED_FOLDERS.intersection(relative.parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue  # lib2to3 and friends ship deliberately broken samples
        module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(tree):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            text = ast.get_docstring(node)
            if text and len(text) in DOCSTRING_CHARACTERS:
                yield (module if isinstance(node, ast.Module) else f"{module}.{node.name}"), text


def build(seed: int) -> Corpus:
    """Return the corpus; the same ``seed`` and the same Python release give the same text."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible shuffle, not a secret
    library = Path(sysconfig.get_path("stdlib"))
    documented = [
        chat.turn("user", rng.choice(_ASKS).format(name)) + chat.turn("assistant", text)
        for name, text in dict(_docstrings(library)).items()
    ]
    reference = [text for _, text in sorted(topics.topics.items())]
    held_out = documented[::HELD_OUT_EVERY]
    training = [text for index, text in enumerate(documented) if index % HELD_OUT_EVERY]
    # The docstrings twice and the conversations about a third of the whole: what people try first must work.
    training = training * 2 + reference + chat.conversations(rng, CONVERSATIONS)
    rng.shuffle(training)
    digest = hashlib.sha256("\0".join([*training, *held_out]).encode()).hexdigest()
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Corpus(training=training, held_out=held_out, sha256=digest, python_version=version)
