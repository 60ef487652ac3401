"""Forms with a file, as `multipart/form-data` (RFC 7578): whole in memory, because the body is bounded before."""

from dataclasses import dataclass
from email.message import Message

from penstock.base.errors import InvalidInputError

PARTS_MAX = 16
HEAD_BYTES_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form; ``filename`` None: it is a text."""

    name: str
    filename: str | None
    data: bytes


def parse_form(content_type: str, body: bytes) -> dict[str, Part]:
    """Return the fields of a form by name; InvalidInputError if the body is no such form or a field is there twice."""
    boundary = _parameter("content-type", content_type, "boundary")
    if not content_type.lower().startswith("multipart/form-data") or not boundary or len(boundary) > 70:
        raise InvalidInputError("send a form: multipart/form-data with 'purpose' and 'file'", field="body")
    mark = b"--" + boundary.encode("latin-1", "replace")
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        raise InvalidInputError("the form is not whole", field="body")
    if len(pieces) - 2 > PARTS_MAX:
        raise InvalidInputError(f"a form has at most {PARTS_MAX} fields here", field="body")
    found: dict[str, Part] = {}
    for piece in pieces[1:-1]:
        part = _part(piece)
        if part.name in found:
            raise InvalidInputError(f"the field '{part.name[:80]}' is there twice", field=part.name[:80])
        found[part.name] = part
    return found


def _part(piece: bytes) -> Part:
    head, end, data = piece.partition(b"\r\n\r\n")
    if not end or len(head) > HEAD_BYTES_MAX:
        raise InvalidInputError("a field of the form has no head", field="body")
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            field = _parameter("content-disposition", value.strip(), "name")
            if field:
                return Part(field, _parameter("content-disposition", value.strip(), "filename"), data)
    raise InvalidInputError("a field of the form has no name", field="body")


def _parameter(header: str, value: str, name: str) -> str | None:
    message = Message()
    try:
        message[header] = value.replace("\r", " ").replace("\n", " ")
        found = message.get_param(name, header=header)
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"the form has a head that cannot be read: {error}", field="body") from error
    if isinstance(found, tuple):  # RFC 2231: charset, language, text
        return found[2]
    return found if isinstance(found, str) else None
