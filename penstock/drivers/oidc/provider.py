"""One OpenID provider: where to send a browser, and what the code that it brings back is worth.

Authorization code flow with PKCE (S256), state and nonce (OpenID Connect Core 1.0 sections 3.1 and 15.5.2,
RFC 7636, RFC 9207). The ID token must be signed by a key of the provider with an asymmetric algorithm, name the
issuer and this client, be fresh, and carry the nonce. Nothing is asked before somebody signs in, so a provider
that is down delays nobody's start.
"""

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import httpx
import orjson

from penstock.base import limits
from penstock.base.clock import Clock, to_epoch_us
from penstock.base.errors import UnauthenticatedError, UnavailableError
from penstock.base.units import US_PER_SECOND
from penstock.drivers.oidc.settings import LOOPBACK, ProviderSettings

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
ANSWER_BYTES_MAX = 1 << 20
LEEWAY_SECONDS = 60
KEPT_SECONDS = 3_600.0  # the provider's description and keys
KEYS_AGAIN_SECONDS = 30.0  # an unknown key may be a new one; not more often


@dataclass(frozen=True, slots=True)
class Person:
    """Who signed in, as the provider says; ``email`` only if the provider confirmed it."""

    subject: str
    email: str | None
    groups: frozenset[str]
    signed_in_at: int | None  # seconds since the epoch


class Provider:
    """A provider that is asked over HTTP; may be used by several threads."""

    def __init__(self, settings: ProviderSettings, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._described: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, Any] | None = None

    def address(self, *, state: str, nonce: str, verifier: str, sign_in_again: bool) -> str:
        """Return where to send the browser; raises UnavailableError if the provider does not answer."""
        extra = {"prompt": "login", "max_age": "0"} if sign_in_again else {}
        address = _library("authlib.oauth2.rfc6749.parameters").prepare_grant_uri(
            self._describe()["authorization_endpoint"],
            client_id=self.settings.client_id,
            response_type="code",
            redirect_uri=self.settings.redirect_url,
            scope=" ".join(self.settings.scopes),
            state=state,
            nonce=nonce,
            code_challenge=_library("authlib.oauth2.rfc7636").create_s256_code_challenge(verifier),
            code_challenge_method="S256",
            **extra,
        )
        return str(address)

    def redeem(self, code: str, *, nonce: str, verifier: str, issuer: str | None) -> Person:
        """Return who is behind a code.

        ``issuer`` is the ``iss`` parameter that came with the code, if there was one. UnauthenticatedError if the
        provider refuses the code or its token is not what it must be; UnavailableError if it does not answer.
        """
        described = self._describe()
        if issuer != described["issuer"] and (
            issuer is not None or described.get("authorization_response_iss_parameter_supported") is True
        ):
            raise UnauthenticatedError(_FORGED, internal=f"iss {issuer!r}")
        tokens = self._exchange(described["token_endpoint"], code, verifier)
        claims = self._claims(tokens, nonce)
        if self.settings.groups_claim not in claims or "email" not in claims:
            claims = {**self._more(described, tokens, str(claims["sub"])), **claims}
        return self._person(claims)

    def _exchange(self, url: str, code: str, verifier: str) -> dict[str, Any]:
        secret = self.settings.client_secret
        way = "none" if secret is None else "client_secret_basic"
        body = urlencode(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": self.settings.redirect_url,
                "code_verifier": verifier,
            }
        )
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        auth = _library("authlib.oauth2.auth").ClientAuth(self.settings.client_id, secret, way)
        url, headers, body = auth.prepare("POST", url, headers, body)
        status, tokens = self._ask("POST", url, headers=headers, content=body)
        if status != 200 or not isinstance(tokens.get("id_token"), str):
            raise UnauthenticatedError(_REFUSED, internal=f"{status}: {tokens.get('error')}")
        return tokens

    def _claims(self, tokens: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """Return the claims of the ID token after every check of OpenID Connect Core 3.1.3.7."""
        jwt = _library("joserfc.jwt")
        refused = (_library("joserfc.errors").JoseError, ValueError, TypeError, KeyError)

        def decode(*, fresh_keys: bool) -> Any:
            return jwt.decode(tokens["id_token"], self._key_set(fresh=fresh_keys), algorithms=ALGORITHMS)

        try:
            try:
                token = decode(fresh_keys=False)
            except refused:
                token = decode(fresh_keys=True)  # the provider may have new keys
            claims = _library("authlib.oidc.core").CodeIDToken(
                token.claims,
                token.header,
                {
                    "iss": {"essential": True, "values": [self.settings.issuer]},
                    "aud": {"essential": True, "values": [self.settings.client_id]},
                    "nonce": {"essential": True, "value": nonce},
                },
                {
                    "nonce": nonce,
                    "client_id": self.settings.client_id,
                    "access_token": tokens.get("access_token"),
                },
            )
            now = to_epoch_us(self._clock.now()) // US_PER_SECOND
            claims.validate(now=now, leeway=LEEWAY_SECONDS)
        except refused as error:
            raise UnauthenticatedError(_FORGED, internal=repr(error)) from error
        return dict(cast("Mapping[str, Any]", claims))

    def _more(self, described: Mapping[str, Any], tokens: Mapping[str, Any], subject: str) -> dict[str, Any]:
        """Return what the provider says at its userinfo endpoint; nothing if it has none."""
        url = described.get("userinfo_endpoint")
        access = tokens.get("access_token")
        if not isinstance(url, str) or not isinstance(access, str):
            return {}
        status, claims = self._ask("GET", _safe(url), headers={"Authorization": f"Bearer {access}"})
        if status != 200 or claims.get("sub") != subject:
            raise UnauthenticatedError(_FORGED, internal=f"userinfo {status} of another subject")
        return claims

    def _person(self, claims: Mapping[str, Any]) -> Person:
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isprintable():
            raise UnauthenticatedError(_FORGED, internal="no usable subject")
        email = claims.get("email")
        confirmed = claims.get("email_verified") is True or self.settings.verifies_emails
        groups = claims.get(self.settings.groups_claim, [])
        named = cast("list[object]", groups if isinstance(groups, list) else [groups])
        at = claims.get("auth_time")
        return Person(
            subject,
            email.lower() if isinstance(email, str) and confirmed else None,
            frozenset(group for group in named if isinstance(group, str)),
            int(at) if isinstance(at, int | float) else None,
        )

    def _describe(self) -> dict[str, Any]:
        """Return the provider's own description, fetched at most once in KEPT_SECONDS."""
        with self._lock:
            now = self._clock.monotonic()
            if self._described is not None and now - self._described[0] < KEPT_SECONDS:
                return self._described[1]
            url = f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration"
            status, document = self._ask("GET", url)
            if status != 200 or document.get("issuer") != self.settings.issuer:
                raise UnavailableError(
                    _SILENT, internal=f"{url}: {status}, issuer {document.get('issuer')!r}"
                )
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                document[name] = _safe(document.get(name))
            self._described = (now, document)
            return document

    def _key_set(self, *, fresh: bool) -> Any:
        described = self._describe()
        with self._lock:
            now = self._clock.monotonic()
            kept_for = KEYS_AGAIN_SECONDS if fresh else KEPT_SECONDS
            if self._keys is None or now - self._keys[0] >= kept_for:
                status, document = self._ask("GET", described["jwks_uri"])
                if status != 200:
                    raise UnavailableError(_SILENT, internal=f"keys: {status}")
                self._keys = (now, _library("joserfc.jwk").KeySet.import_key_set(document))
            return self._keys[1]

    def _ask(self, method: str, url: str, **more: Any) -> tuple[int, dict[str, Any]]:
        """Return status and JSON object of an answer, both bounded; UnavailableError if there is none."""
        verify: Any = True if self.settings.ca_file is None else _trust(str(self.settings.ca_file))
        try:
            with (
                httpx.Client(trust_env=False, follow_redirects=False, verify=verify) as client,
                client.stream(method, url, timeout=limits.OIDC_SECONDS, **more) as response,
            ):
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if len(body) > ANSWER_BYTES_MAX:
                        raise UnavailableError(_SILENT, internal=f"{url}: the answer is over the limit")
            document: object = orjson.loads(body) if body else {}
        except (httpx.HTTPError, httpx.InvalidURL, orjson.JSONDecodeError, OSError) as error:
            raise UnavailableError(_SILENT, internal=f"{url}: {error!r}") from error
        if not isinstance(document, dict):
            raise UnavailableError(_SILENT, internal=f"{url}: no JSON object")
        return response.status_code, cast("dict[str, Any]", document)


def _library(name: str) -> Any:
    """Return a module that is loaded at first use (60 ms, which most starts never need) and has no types."""
    return import_module(name)


def _trust(ca_file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


def _safe(url: object) -> str:
    """Return an endpoint that secrets may be sent to; UnavailableError for others."""
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or not (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    ):
        raise UnavailableError(_SILENT, internal=f"endpoint {url!r}")
    return cast("str", url)


_SILENT = "the identity provider does not answer as it should; try again shortly, or log in with a password"
_REFUSED = "the identity provider does not accept this sign-in any more; begin again"
_FORGED = "this answer is not what the identity provider must say for this sign-in; begin again"
