"""The text of a join token: ``pjt_<id>.<secret>.<fingerprint of the factory's certificate authority>``.

The first part finds the row, the second is compared by SHA-256 (it has 200 random bits, so a fast hash is
right), the third lets the new agent tell the factory from an impostor before it sends the secret.
"""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from penstock.base.ids import PREFIXES

_PATTERN = re.compile(r"pjt_([0-9a-hjkmnp-tv-z]{26})\.([a-z2-7]{40})\.([0-9a-f]{64})\Z")


@dataclass(frozen=True, slots=True)
class JoinTokenText:
    """A token taken apart: the id of its row, the secret, and the SHA-256 (hex) of the authority's certificate."""

    token_id: str
    secret: str
    ca_sha256: str

    @property
    def text(self) -> str:
        """Return the text an operator hands over; shown once."""
        return f"pjt_{self.token_id.partition('_')[2]}.{self.secret}.{self.ca_sha256}"

    @property
    def secret_sha256(self) -> str:
        """Return what is stored of the secret."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


def mint(token_id: str, ca_sha256: str, entropy: Callable[[int], bytes]) -> JoinTokenText:
    """Make the text for a new row from 25 random bytes of ``entropy``."""
    return JoinTokenText(token_id, base64.b32encode(entropy(25)).decode().lower(), ca_sha256)


def parse(text: str) -> JoinTokenText | None:
    """Take a token's text apart, or return None if it cannot be one."""
    match = _PATTERN.match(text.strip())
    if match is None:
        return None
    return JoinTokenText(f"{PREFIXES['join_token']}_{match.group(1)}", match.group(2), match.group(3))
