"""What kind of document some bytes are: judged by what they hold first, by what was said of them second."""

import zipfile
from collections.abc import Mapping
from enum import StrEnum
from io import BytesIO

from penstock.base.errors import InvalidInputError

SNIFFED_BYTES = 1 << 16


class Media(StrEnum):
    """The kinds that can be read, by media type."""

    TEXT = "text/plain"
    MARKDOWN = "text/markdown"
    HTML = "text/html"
    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


_BY_ENDING: Mapping[str, Media] = {
    "txt": Media.TEXT, "text": Media.TEXT, "rst": Media.TEXT, "md": Media.MARKDOWN, "markdown": Media.MARKDOWN,
    "html": Media.HTML, "htm": Media.HTML, "xhtml": Media.HTML, "pdf": Media.PDF, "docx": Media.DOCX,
}  # fmt: skip


def media_of(data: bytes, name: str, stated: str | None) -> Media:
    """Return the kind of ``data``; InvalidInputError (``body``) if it is none that can be read."""
    if not data:
        raise InvalidInputError("the document is empty", field="body")
    if data[:1024].lstrip().startswith(b"%PDF-"):
        return Media.PDF
    if data.startswith(b"PK\x03\x04"):
        return _of_archive(data)
    if is_binary(data):
        raise InvalidInputError(
            "this is neither text, Markdown, HTML, PDF nor DOCX: it holds bytes that no text holds",
            field="body",
        )
    plain = (stated or "").partition(";")[0].strip().lower()
    ending = _BY_ENDING.get(name.rpartition(".")[2].lower())
    claimed = next((media for media in Media if media == plain), None)
    if claimed in {Media.PDF, Media.DOCX} or ending in {Media.PDF, Media.DOCX}:
        raise InvalidInputError("this is text, not the PDF or DOCX it is called", field="body")
    if claimed is Media.MARKDOWN or claimed is Media.HTML:
        return claimed
    if ending is not None:
        return ending
    head = data[:SNIFFED_BYTES].lstrip()[:512].lower()
    return Media.HTML if head.startswith((b"<!doctype html", b"<html")) else Media.TEXT


def _of_archive(data: bytes) -> Media:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise InvalidInputError("the archive is damaged; upload it again", field="body") from error
    if "word/document.xml" not in names:
        raise InvalidInputError(
            "of archives only DOCX can be read; upload the documents themselves", field="body"
        )
    return Media.DOCX


def is_binary(data: bytes) -> bool:
    """Tell whether the bytes are no text: NUL outside UTF-16, or many control characters."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return False
    head = data[:SNIFFED_BYTES]
    if b"\x00" in head:
        return True
    odd = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    return odd * 100 > len(head)
