"""One reader per kind of document. They run in a process of their own with bounded memory and time."""

import importlib
import io
import itertools
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from penstock.base import limits
from penstock.domain.document import Block, Extracted, assemble
from penstock.drivers.documents.kinds import Media

_HEADING = re.compile(r"h([1-6])\Z")
_LEFT_OUT = frozenset({"script", "style", "noscript", "template", "head", "nav", "svg", "iframe", "object"})
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "br",
        "dd",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hr",
        "html",
        "li",
        "main",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)


class ReadError(Exception):
    """A document that cannot be read; ``code`` is a key of ``domain.document.REASON_SENTENCES``."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


def read(data: bytes, media: Media) -> Extracted:
    """Return the text of a document; raises ReadError."""
    extracted = {
        Media.TEXT: _text,
        Media.MARKDOWN: _markdown,
        Media.HTML: _html,
        Media.PDF: _pdf,
        Media.DOCX: _docx,
    }[media](data)
    if len(extracted.text) > limits.DOCUMENT_CHARACTERS_MAX:
        raise ReadError("too_large", f"more than {limits.DOCUMENT_CHARACTERS_MAX:,} characters of text")
    if not extracted.text:
        raise ReadError("no_text", "there is no text in it")
    return extracted


def decode(data: bytes) -> str:
    """Return the text of bytes: UTF-8 or UTF-16 with a mark, else Windows-1252; line ends become newlines."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", errors="replace")
    return clean(text.replace("\r\n", "\n").replace("\r", "\n"))


def clean(text: str) -> str:
    """Return the text without what a database or a terminal cannot take: NUL, other controls, half characters."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", " ", text)


def _text(data: bytes) -> Extracted:
    return assemble([Block(decode(data))])


def _markdown(data: bytes) -> Extracted:
    """Cut at headings as CommonMark sees them; the text stays as it was written."""
    parser: Any = importlib.import_module("markdown_it").MarkdownIt("commonmark")
    source = decode(data)
    lines = source.split("\n")
    tokens = parser.parse(source)
    starts: list[tuple[int, int, str]] = []  # line, level, title
    for token, inline in itertools.pairwise(tokens):
        if token.type == "heading_open" and token.map and token.level == 0:
            starts.append((token.map[0], int(token.tag[1]), inline.content))
    blocks = [Block("\n".join(lines[: starts[0][0] if starts else len(lines)]))]
    path: list[tuple[int, str]] = []
    for index, (line, level, title) in enumerate(starts):
        path = [*((above, name) for above, name in path if above < level), (level, title)]
        end = starts[index + 1][0] if index + 1 < len(starts) else len(lines)
        blocks.append(Block("\n".join(lines[line:end]), " > ".join(name for _, name in path)))
    return assemble(blocks)


def _html(data: bytes) -> Extracted:
    library: Any = importlib.import_module("lxml.html")
    parser = library.HTMLParser(
        recover=True,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        encoding="utf-8",
    )
    try:
        root = library.document_fromstring(decode(data).encode(), parser=parser)
    except (ValueError, importlib.import_module("lxml.etree").LxmlError) as error:
        raise ReadError("corrupt", f"this is no HTML that can be read: {error}") from error
    return assemble(_html_blocks(root))


def _html_blocks(root: Any) -> Iterator[Block]:
    """Yield the text between headings, walking without recursion: depth is the document's choice."""
    path: list[tuple[int, str]] = []
    parts: list[str] = []
    skipped: Any = None
    walker = importlib.import_module("lxml.etree").iterwalk(root, events=("start", "end"))
    for event, element in walker:
        tag = element.tag if isinstance(element.tag, str) else ""
        if event == "start":
            if skipped is None and tag in _LEFT_OUT:
                skipped = element
            if skipped is not None:
                continue
            heading = _HEADING.match(tag)
            if heading:
                yield Block(_tidy(parts), " > ".join(name for _, name in path))
                parts = []
                level, title = int(heading[1]), _tidy(list(element.itertext()))
                path = [*((above, name) for above, name in path if above < level), (level, title)]
            parts += ["\n" if tag in _BLOCKS or heading else "", element.text or ""]
        elif skipped is element:
            skipped = None
            parts.append(element.tail or "")
        elif skipped is None:
            parts += ["\n" if tag in _BLOCKS or _HEADING.match(tag) else "", element.tail or ""]
    yield Block(_tidy(parts), " > ".join(name for _, name in path))


def _tidy(parts: list[str]) -> str:
    lines = (" ".join(line.split()) for line in clean("".join(parts)).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _pdf(data: bytes) -> Extracted:
    library: Any = importlib.import_module("pypdf")
    errors: Any = importlib.import_module("pypdf.errors")
    try:
        reader = library.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise ReadError("encrypted", "the PDF is protected by a password")
        count = len(reader.pages)
        if count > limits.DOCUMENT_PAGES_MAX:
            raise ReadError("too_large", f"{count:,} pages; at most {limits.DOCUMENT_PAGES_MAX:,}")
        blocks: list[Block] = []
        characters = 0
        for number, page in enumerate(reader.pages, start=1):
            text = clean(page.extract_text() or "")
            characters += len(text)
            if characters > limits.DOCUMENT_CHARACTERS_MAX:
                raise ReadError(
                    "too_large", f"more than {limits.DOCUMENT_CHARACTERS_MAX:,} characters of text"
                )
            blocks.append(Block(text, page=number))
    except errors.LimitReachedError as error:
        raise ReadError("too_large", f"a part of the PDF unpacks to too much: {error}") from error
    except (errors.PyPdfError, ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        # The library lets bare errors of Python out where a file breaks the format's rules.
        raise ReadError(
            "corrupt", f"the PDF is damaged: {str(error)[:200] or type(error).__name__}"
        ) from error
    return assemble(blocks, pages=count)


def check_archive(data: bytes) -> None:
    """Raise ReadError if an archive unpacks to more than is allowed, judged by unpacking it."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > limits.ARCHIVE_ENTRIES_MAX:
                raise ReadError("too_large", f"more than {limits.ARCHIVE_ENTRIES_MAX:,} files in the archive")
            left = limits.UNPACKED_BYTES_MAX
            for entry in entries:
                with archive.open(entry) as stream:
                    while piece := stream.read(1 << 20):
                        left -= len(piece)
                        if left < 0:
                            limit = limits.UNPACKED_BYTES_MAX >> 20
                            raise ReadError("too_large", f"the file unpacks to more than {limit} MiB")
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, NotImplementedError, EOFError) as error:
        raise ReadError("corrupt", f"the file is damaged: {error}") from error


def _docx(data: bytes) -> Extracted:
    check_archive(data)
    library: Any = importlib.import_module("docx")
    etree: Any = importlib.import_module("lxml.etree")
    try:
        document = library.Document(io.BytesIO(data))
        return assemble(list(_docx_blocks(document)))
    except (
        KeyError,
        ValueError,
        AttributeError,
        OSError,
        etree.LxmlError,
        library.opc.exceptions.OpcError,
    ) as error:
        raise ReadError("corrupt", f"the DOCX is damaged: {str(error)[:200]}") from error


def _docx_blocks(document: Any) -> Iterator[Block]:
    path: list[tuple[int, str]] = []
    parts: list[str] = []
    for item in document.iter_inner_content():
        if hasattr(item, "rows"):
            cells = (" | ".join(cell.text.strip() for cell in row.cells) for row in item.rows)
            parts.append(clean("\n".join(cells)))
            continue
        style = item.style.name if item.style is not None else ""
        level = _docx_level(style or "")
        if level is not None and item.text.strip():
            yield Block("\n\n".join(parts), " > ".join(name for _, name in path))
            parts = []
            path = [
                *((above, name) for above, name in path if above < level),
                (level, clean(item.text.strip())),
            ]
        parts.append(clean(item.text))
    yield Block("\n\n".join(parts), " > ".join(name for _, name in path))


def _docx_level(style: str) -> int | None:
    if style == "Title":
        return 0
    match = re.match(r"Heading ([1-9])\Z", style)
    return int(match[1]) if match else None
