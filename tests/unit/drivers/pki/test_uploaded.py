"""Certificates that are brought: kept if chain, key, time and purpose are right, refused by the field that is wrong."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from penstock.base.errors import InvalidInputError
from penstock.drivers.pki.uploaded import read_uploaded
from tests.support.uploads import Elsewhere, chain, new_key, pem_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
THEIRS = Elsewhere(NOW)
KEY = new_key()
GOOD = chain(THEIRS.leaf(KEY), THEIRS.lower)


def test_a_chain_with_its_key_is_kept_without_anything_else_in_it() -> None:
    found = read_uploaded(f"Bag Attributes: none\n{GOOD}trailing", pem_of(KEY), NOW)
    assert found.chain_pem == GOOD
    assert (found.names, found.key_kind, found.issuer) == (("shop.test",), "EC P-256", "CN=lower")
    assert found.expires_at == NOW + timedelta(days=60)
    assert found.key_pem == pem_of(KEY)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: rsa.generate_private_key(65_537, 2_048), "RSA 2048"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "EC P-384"),
    ],
    ids=["rsa", "p384"],
)
def test_other_keys_that_clients_take(make: Callable[[], ec.EllipticCurvePrivateKey], kind: str) -> None:
    key = make()
    leaf = THEIRS.leaf(key, purpose=ExtendedKeyUsageOID.SERVER_AUTH)
    assert read_uploaded(chain(leaf), pem_of(key), NOW).key_kind == kind


def refusals() -> dict[str, tuple[str, str, str, str]]:
    """Return by name: chain, key, the field that is wrong, and a word of the sentence."""
    good_key, other = pem_of(KEY), new_key()
    small = rsa.generate_private_key(65_537, 1_024)  # noqa: S505 - to be refused
    odd = ec.generate_private_key(ec.SECP521R1())
    return {
        "no pem": ("hello", good_key, "certificate_pem", "PEM"),
        "half": (GOOD[: len(GOOD) // 3], good_key, "certificate_pem", "PEM"),
        "key as chain": (good_key, good_key, "certificate_pem", "PEM"),
        "not ascii": ("é" + GOOD, good_key, "certificate_pem", "PEM"),
        "wrong order": (chain(THEIRS.lower, THEIRS.leaf(KEY)), good_key, "certificate_pem", "PEM"),
        "not a chain": (chain(THEIRS.leaf(KEY), THEIRS.root), good_key, "certificate_pem", ""),
        "too long": (chain(*[THEIRS.root] * 6), good_key, "certificate_pem", "1 to 5"),
        "expired": (chain(THEIRS.leaf(KEY, days=(-9, -1))), good_key, "certificate_pem", "expired on"),
        "not yet": (chain(THEIRS.leaf(KEY, days=(1, 9))), good_key, "certificate_pem", "only from"),
        "authority": (chain(THEIRS.leaf(KEY, authority=True)), good_key, "certificate_pem", "authority"),
        "client": (
            chain(THEIRS.leaf(KEY, purpose=ExtendedKeyUsageOID.CLIENT_AUTH)),
            good_key,
            "certificate_pem",
            "for servers",
        ),
        "no names": (chain(THEIRS.leaf(KEY, ())), good_key, "certificate_pem", "alternative name"),
        "other key": (GOOD, pem_of(other), "private_key_pem", "does not belong"),
        "encrypted": (GOOD, pem_of(KEY, b"secret"), "private_key_pem", "unencrypted"),
        "no key": (GOOD, "hello", "private_key_pem", "PEM"),
        "chain as key": (GOOD, GOOD, "private_key_pem", "PEM"),
        "small": (chain(THEIRS.leaf(small)), pem_of(small), "private_key_pem", "2,048"),
        "odd curve": (chain(THEIRS.leaf(odd)), pem_of(odd), "private_key_pem", "P-256"),
    }


REFUSALS = refusals()


@pytest.mark.parametrize("name", sorted(REFUSALS))
def test_what_is_wrong_is_named(name: str) -> None:
    brought, key, field, word = REFUSALS[name]
    with pytest.raises(InvalidInputError) as refused:
        read_uploaded(brought, key, NOW)
    assert refused.value.field == field, refused.value.sentence
    assert word in refused.value.sentence
    assert len(key) < 80 or key[40:80] not in f"{refused.value.sentence}{refused.value.internal}"
