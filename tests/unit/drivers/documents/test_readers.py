"""Every kind of document is read with its structure, and every bad one is refused with its reason."""

import io
import zipfile

import docx
import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.domain.document import Extracted
from penstock.drivers.documents import readers
from penstock.drivers.documents.kinds import Media, media_of
from penstock.drivers.documents.reader import extract
from penstock.drivers.documents.readers import ReadError


def headings(found: Extracted) -> list[tuple[str, str]]:
    return [(one.heading, found.text[one.start : one.end]) for one in found.sections]


def pdf(*pages: str, password: str | None = None) -> bytes:
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for text in pages:
        page = writer.add_blank_page(300, 300)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 10 200 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def word(*, heading: str = "Cooling") -> bytes:
    document = docx.Document()
    document.add_heading("Manual", 0)
    document.add_heading(heading, 1)
    document.add_paragraph("The pump runs first.")
    table = document.add_table(1, 2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "valve", "V-17"
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def test_markdown_is_cut_at_its_headings() -> None:
    source = "Before.\n\n# A\n\ntext\n\n```\n# no heading\n```\n\n## B\n\nmore\n\nC\n=\n\nend"
    found = extract(source.encode(), Media.MARKDOWN)
    assert [heading for heading, _ in headings(found)] == ["", "A", "A > B", "C"]
    assert "# no heading" in headings(found)[1][1]


def test_html_keeps_headings_and_leaves_out_what_nobody_reads() -> None:
    page = """<html><head><title>T</title><style>p{}</style></head><body><nav>menu</nav><h1>One</h1><p>first <b>bold</b></p>
    <script>evil()</script><h2>Two</h2><ul><li>a</li><li>b</li></ul>tail</body></html>"""
    found = extract(page.encode(), Media.HTML)
    assert headings(found) == [("One", "One\n\nfirst bold"), ("One > Two", "Two\n\na\n\nb\n\ntail")]


def test_a_pdf_has_pages() -> None:
    found = extract(pdf("Pump first.", "Valve second."), Media.PDF)
    assert found.pages == 2
    assert [(one.page, found.text[one.start : one.end]) for one in found.sections] == [
        (1, "Pump first."),
        (2, "Valve second."),
    ]


def test_a_docx_has_headings_and_tables() -> None:
    found = extract(word(), Media.DOCX)
    assert headings(found)[-1] == ("Manual > Cooling", "Cooling\n\nThe pump runs first.\n\nvalve | V-17")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Größe\r\nzwei".encode(), "Größe\nzwei"),
        ("Größe".encode("cp1252"), "Größe"),
        ("Größe".encode("utf-16"), "Größe"),
        (b"a\x0bb", "a b"),
    ],
)
def test_text_is_decoded(data: bytes, text: str) -> None:
    assert extract(data, Media.TEXT).text == text


@pytest.mark.parametrize(
    ("data", "media", "code"),
    [
        (b"%PDF-1.7\nrubbish", Media.PDF, "corrupt"),
        (pdf("x")[:200], Media.PDF, "corrupt"),
        (pdf(""), Media.PDF, "no_text"),
        (pdf("x", password="secret"), Media.PDF, "encrypted"),
        (b"   \n ", Media.TEXT, "no_text"),
        (b"PK\x03\x04", Media.DOCX, "corrupt"),
        (b"<html></html>", Media.HTML, "no_text"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, media: Media, code: str) -> None:
    with pytest.raises(ReadError) as refused:
        extract(data, media)
    assert refused.value.code == code


def bomb(megabytes: int) -> bytes:
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("word/document.xml", "w") as stream,
    ):
        for _ in range(megabytes):
            stream.write(bytes(1 << 20))
    return out.getvalue()


def test_a_zip_bomb_is_refused_before_it_is_read() -> None:
    data = bomb((limits.UNPACKED_BYTES_MAX >> 20) + 1)
    assert len(data) < 1 << 20
    assert media_of(data, "x.docx", None) is Media.DOCX
    with pytest.raises(ReadError, match="unpacks to more") as refused:
        readers.check_archive(data)
    assert refused.value.code == "too_large"


def test_an_external_entity_is_not_resolved(tmp_path: object) -> None:
    out = io.BytesIO(word())
    with zipfile.ZipFile(out) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    evil = b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
    body = (
        parts["word/document.xml"].partition(b"?>")[2].replace(b"The pump runs first.", b"before &x; after")
    )
    parts["word/document.xml"] = evil + body
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    found = extract(made.getvalue(), Media.DOCX)
    assert "before" in found.text
    with open("/etc/hostname") as stream:  # noqa: PTH123 - the file that must not be in it
        assert stream.read().strip() not in found.text
    del tmp_path


def test_a_reader_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READER_SECONDS", 0.001)
    with pytest.raises(ReadError) as refused:
        extract(pdf("x"), Media.PDF)
    assert refused.value.code == "took_too_long"


@pytest.mark.parametrize(
    ("data", "name", "stated", "media"),
    [
        (b"%PDF-1.7", "x.txt", "text/plain", Media.PDF),
        (b"# A", "x.md", None, Media.MARKDOWN),
        (b"# A", "x", "text/markdown; charset=utf-8", Media.MARKDOWN),
        (b"<!DOCTYPE html><p>a", "x", "application/octet-stream", Media.HTML),
        (b"plain", "x.unknown", None, Media.TEXT),
    ],
)
def test_kinds_are_judged_by_what_they_hold(data: bytes, name: str, stated: str | None, media: Media) -> None:
    assert media_of(data, name, stated) is media


@pytest.mark.parametrize(
    ("data", "name"),
    [(b"", "x"), (b"a\x00b", "x.txt"), (b"\x7fELF\x02\x01\x01\x00", "x.txt"), (b"text", "x.pdf")],
)
def test_what_is_no_document_is_refused(data: bytes, name: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        media_of(data, name, None)
    assert refused.value.field == "body"
