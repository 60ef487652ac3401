"""What an endpoint elsewhere needs: its address, the model there, and the name of the secret that opens it.

An address of the public internet must be https. Plain http, and addresses that are not public, are for the
networks that the operator named in ``PENSTOCK_UPSTREAM_NETWORKS``: a tenant chooses the address, so the factory must
not become his way into somebody's network.
"""

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from penstock.base.addresses import Network, is_inside, is_public, parse_networks
from penstock.base.errors import InvalidInputError
from penstock.drivers.base import Config

NETWORKS_VARIABLE = "PENSTOCK_UPSTREAM_NETWORKS"
URL_CHARACTERS_MAX = 2_000
NAME_CHARACTERS_MAX = 128
SLOTS_MAX = 10_000
_FIELDS = frozenset({"url", "served_model_name", "secret", "slots"})


def _bad(field: str, sentence: str) -> InvalidInputError:
    return InvalidInputError(sentence, field=field)


def allowed_networks() -> tuple[Network, ...]:
    """Return the networks that the operator allows besides the public internet."""
    return parse_networks(os.environ.get(NETWORKS_VARIABLE, ""))


def check_url(url: str, allowed: tuple[Network, ...], field: str = "url") -> str:
    """Return ``url`` as it is called, if it may be; InvalidInputError names ``field``. Looks nothing up."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise _bad(field, f"'{url[:200]}' is no address: {error}") from error
    if len(url) > URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise _bad(
            field, f"an address has at most {URL_CHARACTERS_MAX} printable ASCII characters and no spaces"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise _bad(field, f"'{url[:200]}' must begin with https:// and name a host")
    if parts.username is not None or parts.password is not None:
        raise _bad(field, "an address may hold no user name or password; keep the key as a secret")
    if parts.query or parts.fragment:
        raise _bad(field, "an address ends with its path, for example https://host/v1")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if parts.scheme == "http" and not allowed:
            raise _bad(field, f"'{url[:200]}' must begin with https://") from None
        return url
    inside = is_inside(address, allowed)
    if not inside and not is_public(address):
        raise _bad(field, f"'{host}' is no public address; an operator may allow its network")
    if parts.scheme == "http" and not inside:
        raise _bad(field, f"'{url[:200]}' must begin with https://")
    return url


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """``served_model_name`` is the model's name at the peer; ``slots`` requests at a time, 0: the gateway's own bound."""

    url: str
    served_model_name: str
    secret: str | None = None
    slots: int = 0

    @classmethod
    def parse(cls, config: Config) -> "PeerConfig":
        """Return the checked form of ``config``; raises InvalidInputError naming the field."""
        unknown = sorted(set(config) - _FIELDS)
        if unknown:
            raise _bad(unknown[0], f"Unknown field {unknown[0]!r}.")
        url, name, secret = config.get("url"), config.get("served_model_name"), config.get("secret")
        if not isinstance(url, str):
            raise _bad("url", "url must be an address.")
        if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
            raise _bad(
                "served_model_name",
                f"served_model_name must be 1 to {NAME_CHARACTERS_MAX} printable characters.",
            )
        if secret is not None and not isinstance(secret, str):
            raise _bad("secret", "secret must be the name of a secret.")
        slots = config.get("slots", 0)
        if isinstance(slots, bool) or not isinstance(slots, int) or not 0 <= slots <= SLOTS_MAX:
            raise _bad("slots", f"slots must be a whole number from 0 to {SLOTS_MAX}.")
        return cls(check_url(url, allowed_networks()), name, secret, slots)

    @property
    def base(self) -> str:
        """Return the address below which the API's paths are, as the gateway makes it: it ends with /v1."""
        url = self.url.rstrip("/")
        return url if url.endswith("/v1") else url + "/v1"
