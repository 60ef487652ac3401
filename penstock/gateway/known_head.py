"""Heads that were parsed before and come again: peers repeat themselves, byte for byte but for one number.

What is taken here without the parser is a whole message whose head is the one that the parser judged last on this
connection, except for the digits of its ``content-length``, and whose body has exactly that length. Everything else
is left to the parser.
"""

import re

_LENGTH = re.compile(rb"\r\ncontent-length: ?(\d{1,7})(?=\r\n)", re.IGNORECASE)
_LENGTH_NAME = re.compile(rb"\r\ncontent-length", re.IGNORECASE)
_UNUSUAL = re.compile(rb"\r\n(?:transfer-encoding|upgrade|expect|connection|trailer) *:", re.IGNORECASE)
_DIGITS_MAX = 7


class KnownHead:
    """The bytes before and after the digits."""

    __slots__ = ("_after", "_before", "_overhead")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after
        self._overhead = len(before) + len(after)

    @classmethod
    def of(cls, message: bytes) -> "KnownHead | None":
        """Return the head of a whole message that was parsed; None if it is not a plain one."""
        end = message.find(b"\r\n\r\n") + 4
        head = message[:end]
        found = _LENGTH.search(head)
        if end < 4 or found is None or len(_LENGTH_NAME.findall(head)) != 1 or _UNUSUAL.search(head):
            return None
        if int(found.group(1)) != len(message) - end:
            return None
        return cls(head[: found.start(1)], head[found.end(1) :])

    def body(self, message: bytes) -> bytes | None:
        """Return the body of a whole message with this head; None if it is another head, or more or less of one."""
        begin = len(self._before)
        end = message.find(b"\r", begin, begin + _DIGITS_MAX + 1)
        if end < 0 or not message.startswith(self._before) or not message.startswith(self._after, end):
            return None
        digits = message[begin:end]
        if not digits.isdigit() or int(digits) != len(message) - self._overhead - len(digits):
            return None
        return message[end + len(self._after) :]
