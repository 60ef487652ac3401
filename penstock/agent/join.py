"""Joining a factory with a one-time token.

The token carries the fingerprint of the factory's authority. The authority's certificate is fetched from an
unverified peer, checked against that fingerprint, and only then trusted: the secret in the token is never
sent to anybody but the factory that made it.
"""

import hmac
import ssl
from urllib.parse import urlsplit

from cryptography import x509

from penstock.agent import http
from penstock.agent.identity import Identity, IdentityFolder, trust
from penstock.base.errors import ForbiddenError, InvalidInputError
from penstock.domain import join_token
from penstock.drivers import wire
from penstock.drivers.pki import certificates


def join(folder: IdentityFolder, *, url: str, token: str, name: str, site: str) -> Identity:
    """Join the factory at ``url`` and keep the identity in ``folder``; return it.

    Raises InvalidInputError on a token or address that cannot be one, ForbiddenError if the peer is not the
    factory of the token, StartupError if the folder cannot be written, and what the factory refuses with.
    """
    address = check_url(url)
    parsed = join_token.parse(token)
    if parsed is None:
        raise InvalidInputError(
            "this is no join token: it has the form pjt_<id>.<secret>.<fingerprint>; make one with "
            "`penstock agent token`",
            field="token",
        )
    folder.prepare()  # a folder that cannot be written must not cost the token
    ca_pem = _fetch_authority(address, parsed.ca_sha256)
    key = certificates.new_key()
    request = wire.JoinRequest(parsed.text, certificates.new_request(key, name), name)
    with http.client(address, trust(ca_pem)) as client:
        said = http.call(client, "POST", "/v1/agents/join", wire.join_request_to_json(request))
    answer = wire.join_answer_from_json(said)
    identity = Identity(answer.agent_id, name, address, site)
    folder.save(identity, ca_pem, answer.certificate_pem, key)
    return identity


def check_url(url: str) -> str:
    """Return ``url`` without a path; InvalidInputError unless it is https://host[:port]."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise InvalidInputError(f"'{url}' is no address: {error}", field="url") from error
    if (
        parts.scheme != "https"
        or not parts.hostname
        or parts.username
        or parts.path.strip("/")
        or parts.query
    ):
        raise InvalidInputError(
            f"'{url}' is no address of a factory: give https://host:port as the factory shows it", field="url"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"https://{host}:{port}" if port else f"https://{host}"


def _fetch_authority(url: str, sha256: str) -> str:
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE  # whoever answers: the fingerprint below decides
    with http.client(url, unverified) as client:
        ca_pem = wire.ca_from_json(http.call(client, "GET", "/v1/agents/ca"))
    try:
        found = certificates.sha256_hex(x509.load_pem_x509_certificate(ca_pem.encode("ascii")))
    except (ValueError, UnicodeError) as error:
        raise ForbiddenError(f"{url} shows no certificate authority: check the address") from error
    if not hmac.compare_digest(found, sha256):
        raise ForbiddenError(
            f"{url} is not the factory that made this token: its authority has another fingerprint; check the "
            "address, and that nobody stands in between"
        )
    return ca_pem
