"""A document of a knowledge base: its states, its text with structure, and how that is cut into chunks.

Offsets count characters of the extracted text, from 0; a chunk is ``text[start:end]``. Chunks never cross a
section (a heading's text, or a page), so what a citation names is where the words stand.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from penstock.base import limits


class DocumentState(StrEnum):
    """What a document is."""

    PENDING = "pending"
    INDEXING = "indexing"
    WAITING = "waiting"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"


STATE_SENTENCES: dict[DocumentState, str] = {
    DocumentState.PENDING: "accepted; it is read and indexed next",
    DocumentState.INDEXING: "being indexed; the version before, if any, is still what searches find",
    DocumentState.WAITING: "something it needs is not there right now; it goes on by itself",
    DocumentState.READY: "searches find it",
    DocumentState.FAILED: "it could not be read; the version before, if any, is still what searches find",
    DocumentState.DELETING: "searches do not find it any more; what is left of it is being removed",
}

_S = DocumentState
TRANSITIONS: frozenset[tuple[DocumentState, DocumentState]] = frozenset(
    {
        (_S.PENDING, _S.INDEXING),
        (_S.INDEXING, _S.READY),
        (_S.WAITING, _S.INDEXING),
        *((source, _S.WAITING) for source in (_S.PENDING, _S.INDEXING)),
        *((source, _S.FAILED) for source in (_S.PENDING, _S.INDEXING, _S.WAITING)),
        # A new version, or the same one again.
        *((source, _S.PENDING) for source in (_S.INDEXING, _S.WAITING, _S.READY, _S.FAILED)),
        *((source, _S.DELETING) for source in _S if source is not _S.DELETING),
    }
)

# Why a document failed or waits; stable codes.
REASON_SENTENCES: dict[str, str] = {
    "none": "",
    "corrupt": "the file is damaged or not what its type says; upload it again",
    "encrypted": "the file is protected by a password; upload it without",
    "too_large": "the file, or what it unpacks to, is over a limit; split it",
    "no_text": "there is no text in it; scanned pages must be recognised before",
    "took_too_long": "reading it took too long or too much memory; split it",
    "not_fetched": "the address could not be fetched; see the message",
    "embedding_service": "the embedding service of the knowledge base does not answer; see whether it runs",
    "chunk_quota": "the quota of chunks is used up; delete documents or ask an operator to raise it, then it goes on by itself",
    "quota": "the quota of tokens this month is used up; it goes on next month, or with more quota",
}


@dataclass(frozen=True, slots=True)
class Block:
    """A run of text under one heading and on one page (None where there are no pages)."""

    text: str
    heading: str = ""
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """Where a block lies in the whole text."""

    start: int
    end: int
    heading: str
    page: int | None


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of a document with its sections in order; ``pages`` is None where there are none."""

    text: str
    sections: tuple[Section, ...]
    pages: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document as it is searched; ``position`` counts from 0."""

    position: int
    start: int
    end: int
    heading: str
    page: int | None
    text: str

    @property
    def searched(self) -> str:
        """Return what is embedded: the heading says what the words are about."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


def assemble(blocks: Iterable[Block], pages: int | None = None) -> Extracted:
    """Join blocks into one text, each a section; blocks without text are left out."""
    parts: list[str] = []
    sections: list[Section] = []
    at = 0
    for block in blocks:
        text = block.text.strip()
        if not text:
            continue
        sections.append(
            Section(at, at + len(text), block.heading[: limits.HEADING_CHARACTERS_MAX], block.page)
        )
        parts.append(text)
        at += len(text) + 2
    return Extracted("\n\n".join(parts), tuple(sections), pages)


def cut(extracted: Extracted, size: int, overlap: int) -> list[Chunk]:
    """Cut a text into chunks of at most ``size`` characters that share up to ``overlap`` with the one before.

    Cuts fall between paragraphs where possible, else between sentences, lines or words, and within a word
    only where there is no other place. ValueError unless ``0 <= overlap <= size / 2``.
    """
    if not 0 <= overlap <= size // 2:
        raise ValueError("the overlap is at most half of the size")
    chunks: list[Chunk] = []
    for section in extracted.sections:
        for start, end in _spans(extracted.text, section.start, section.end, size, overlap):
            text = extracted.text[start:end]
            chunks.append(Chunk(len(chunks), start, end, section.heading, section.page, text))
    return chunks


def _spans(text: str, start: int, end: int, size: int, overlap: int) -> Sequence[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    while start < end:
        stop = end if end - start <= size else _place_to_cut(text, start, start + size)
        if text[start:stop].strip():
            spans.append((start, stop))
        if stop >= end:
            break
        start = max(start + 1, _word_start(text, stop - overlap, stop))
    return spans


_PLACES = (re.compile(r"\n\s*\n"), re.compile(r"[.!?][\"')\]]*\s"), re.compile(r"\n"), re.compile(r"\s"))


def _place_to_cut(text: str, start: int, stop: int) -> int:
    """Return the last good place to cut in the second half of ``text[start:stop]``."""
    half = start + (stop - start) // 2
    for place in _PLACES:
        ends = [match.end() for match in place.finditer(text, half, stop)]
        if ends:
            return ends[-1]
    return stop


def _word_start(text: str, wanted: int, stop: int) -> int:
    """Return where the first word at or after ``wanted`` begins, at most ``stop``."""
    if wanted <= 0 or text[wanted - 1].isspace():
        return wanted
    match = _PLACES[-1].search(text, wanted, stop)
    return stop if match is None else match.end()
