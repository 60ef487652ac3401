"""What a provider's answer must be before anybody is believed: each check of OpenID Connect Core 3.1.3.7, broken once."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc.jwk import KeySet, RSAKey

from penstock.base.clock import ManualClock, to_epoch_us
from penstock.base.errors import UnauthenticatedError, UnavailableError
from penstock.domain.role import Role
from penstock.drivers.oidc.provider import KEYS_AGAIN_SECONDS, Person, Provider
from penstock.drivers.oidc.settings import Grant, ProviderSettings
from tests.support.oidc_forger import Forger, forger, key_named, shared_secret

SECRET = "a secret of thirty-two characters"


@pytest.fixture(scope="module")
def key() -> RSAKey:
    return key_named("one")


@pytest.fixture
def fake(key: RSAKey, clock: ManualClock) -> Iterator[Forger]:
    with forger(key) as made:
        now = to_epoch_us(clock.now()) // 1_000_000
        made.claims = {
            "iss": made.issuer,
            "sub": "ada",
            "aud": "penstock",
            "iat": now,
            "exp": now + 600,
            "nonce": "the nonce",
            "email": "Ada@Corp.test",
            "email_verified": True,
            "groups": ["people", 7],
        }
        yield made


def provider(fake: Forger, clock: ManualClock) -> Provider:
    grant = Grant("people", Role.MEMBER, "acme", None)
    settings = ProviderSettings(
        "corp", "Corp", fake.issuer, "penstock", SECRET, "https://f.test/cb", (grant,)
    )
    return Provider(settings, clock)


def redeem(one: Provider, **more: Any) -> Person:
    return one.redeem("the code", **{"nonce": "the nonce", "verifier": "v" * 43, "issuer": None, **more})


def test_a_right_answer_is_a_person(fake: Forger, clock: ManualClock) -> None:
    person = redeem(provider(fake, clock))
    assert person == Person("ada", "ada@corp.test", frozenset({"people"}), None)
    sent = parse_qs(fake.forms[0])
    assert sent["code_verifier"] == ["v" * 43]
    assert sent["grant_type"] == ["authorization_code"]
    assert SECRET not in fake.forms[0], "the secret goes in a header, not in a body"


def test_the_way_there_asks_for_a_code_with_a_challenge_and_for_a_new_log_in_if_wanted(
    fake: Forger, clock: ManualClock
) -> None:
    one = provider(fake, clock)
    address = one.address(state="s", nonce="n", verifier="v" * 43, sign_in_again=True)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert asked["response_type"] == "code"
    assert asked["redirect_uri"] == "https://f.test/cb"
    assert asked["code_challenge"] != "v" * 43
    assert (asked["prompt"], asked["max_age"]) == ("login", "0")


def with_secret(fake: Forger) -> None:
    fake.key, fake.header = shared_secret(SECRET), {"alg": "HS256"}


Change = Callable[[Forger, int], object]
FORGED: dict[str, Change] = {
    "another issuer": lambda f, _: f.claims.update(iss="https://evil.test"),
    "another client": lambda f, _: f.claims.update(aud="somebody-else"),
    "two clients, none authorised": lambda f, _: f.claims.update(aud=["penstock", "other"]),
    "authorised another client": lambda f, _: f.claims.update(azp="other"),
    "another nonce": lambda f, _: f.claims.update(nonce="replayed"),
    "no nonce": lambda f, _: f.claims.pop("nonce"),
    "no subject": lambda f, _: f.claims.pop("sub"),
    "no end": lambda f, _: f.claims.pop("exp"),
    "over": lambda f, now: f.claims.update(exp=now - 61),
    "from the future": lambda f, now: f.claims.update(iat=now + 61),
    "a subject of control characters": lambda f, _: f.claims.update(sub="a\nb"),
    "a key that is not the provider's": lambda f, _: setattr(f, "key", key_named("one")),
    "signed with the client's secret": lambda f, _: with_secret(f),
    "unsigned": lambda f, _: setattr(f, "raw_token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ."),
    "no token at all": lambda f, _: setattr(f, "raw_token", "nonsense"),
}


@pytest.mark.parametrize("how", FORGED)
def test_a_forged_answer_is_nobody(fake: Forger, clock: ManualClock, how: str) -> None:
    FORGED[how](fake, to_epoch_us(clock.now()) // 1_000_000)
    with pytest.raises(UnauthenticatedError):
        redeem(provider(fake, clock))


def test_an_answer_that_another_provider_sent_is_refused(fake: Forger, clock: ManualClock) -> None:
    one = provider(fake, clock)
    with pytest.raises(UnauthenticatedError):
        redeem(one, issuer="https://other.test")
    assert fake.forms == [], "the code was not given away"
    assert redeem(one, issuer=fake.issuer).subject == "ada"


def test_an_unconfirmed_address_is_none_unless_the_provider_is_known_to_confirm(
    fake: Forger, clock: ManualClock
) -> None:
    for value in (False, None, "true"):
        fake.claims["email_verified"] = value
        assert redeem(provider(fake, clock)).email is None


def test_what_the_token_lacks_is_asked_for_and_must_be_of_the_same_person(
    fake: Forger, clock: ManualClock
) -> None:
    del fake.claims["groups"]
    fake.more = {"sub": "ada", "groups": ["people"], "email": "x@evil.test"}
    person = redeem(provider(fake, clock))
    assert (person.groups, person.email) == (frozenset({"people"}), "ada@corp.test")
    fake.more["sub"] = "eve"
    with pytest.raises(UnauthenticatedError):
        redeem(provider(fake, clock))


def test_new_keys_are_fetched_when_the_old_do_not_fit_but_not_all_the_time(
    fake: Forger, clock: ManualClock
) -> None:
    one = provider(fake, clock)
    assert redeem(one).subject == "ada"
    fake.key = key_named("two")
    fake.header["kid"] = "two"
    fake.published = KeySet([fake.key])
    with pytest.raises(UnauthenticatedError):
        redeem(one)
    assert fake.asked.count("/keys") == 1
    clock.advance(timedelta(seconds=KEYS_AGAIN_SECONDS))
    assert redeem(one).subject == "ada"
    assert fake.asked.count("/keys") == 2


@pytest.mark.parametrize(
    "described",
    [{"issuer": "https://evil.test"}, {"token_endpoint": "http://evil.test/token"}, {"jwks_uri": None}],
    ids=["another issuer", "a plain endpoint", "no keys"],
)
def test_a_provider_that_describes_itself_wrongly_is_not_used(
    fake: Forger, clock: ManualClock, described: dict[str, Any]
) -> None:
    fake.described = described
    with pytest.raises(UnavailableError):
        provider(fake, clock).address(state="s", nonce="n", verifier="v", sign_in_again=False)


def test_a_provider_that_is_down_is_said_to_be(clock: ManualClock) -> None:
    settings = ProviderSettings(
        "corp", "Corp", "http://127.0.0.1:1", "penstock", None, "https://f.test/cb", ()
    )
    with pytest.raises(UnavailableError, match="does not answer"):
        Provider(settings, clock).address(state="s", nonce="n", verifier="v", sign_in_again=False)
