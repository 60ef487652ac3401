"""Sealed secrets: only the right key and the right purpose open them; keys are turned over; damage is told."""

import base64
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import StartupError, UnavailableError
from penstock.drivers.pki.vault import KEY_BYTES, Vault


def loaded(path: Path) -> Vault:
    vault = Vault()
    vault.load(path)
    return vault


@given(text=st.text(max_size=200), purpose=st.text(max_size=40))
def test_what_is_sealed_opens_for_its_purpose_alone(
    text: str, purpose: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    vault = loaded(tmp_path_factory.getbasetemp() / "vault.key")
    try:
        sealed = vault.seal(text, purpose)
    except UnicodeEncodeError:
        return  # a lone surrogate is no text
    assert vault.open(sealed, purpose) == text
    assert sealed.isascii()
    with pytest.raises(ValueError, match="something else"):
        vault.open(sealed, purpose + "x")


def test_the_same_text_is_sealed_differently_each_time_and_shows_nothing_of_itself(tmp_path: Path) -> None:
    vault = loaded(tmp_path / "key")
    sealed = {vault.seal("JBSWY3DPEHPK3PXP", "totp usr_1") for _ in range(20)}
    assert len(sealed) == 20
    assert not any("JBSWY3DPEHPK3PXP" in one for one in sealed)


def test_the_file_is_private_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "secrets.key"
    sealed = loaded(path).seal("x", "p")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert loaded(path).open(sealed, "p") == "x"


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_changed_character_is_noticed(tmp_path: Path, place: str) -> None:
    vault = loaded(tmp_path / "key")
    sealed = vault.seal("a secret of some length", "p")
    head, _, body = sealed.rpartition(".")
    at = {"first": 0, "middle": len(body) // 2, "last": len(body) - 3}[place]
    changed = body[:at] + ("A" if body[at] != "A" else "B") + body[at + 1 :]
    with pytest.raises(ValueError, match="damaged"):
        vault.open(f"{head}.{changed}", "p")


def test_a_new_first_key_seals_and_the_old_one_still_opens(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = loaded(path).seal("x", "p")
    path.write_text(f"{base64.b64encode(os.urandom(KEY_BYTES)).decode()}\n{path.read_text()}")
    turned = loaded(path)
    assert turned.open(before, "p") == "x"
    assert not turned.is_current(before)
    assert turned.is_current(turned.seal("x", "p"))
    path.write_text(path.read_text().split()[0])
    with pytest.raises(UnavailableError, match=r"secrets\.key"):
        loaded(path).open(before, "p")


@pytest.mark.parametrize("content", ["", "\n", "short", "!" * 44, base64.b64encode(b"x" * 31).decode()])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(StartupError, match=str(path)):
        loaded(path)


def test_without_a_key_nothing_is_sealed_or_opened(tmp_path: Path) -> None:
    sealed = loaded(tmp_path / "key").seal("x", "p")
    for work in (lambda: Vault().seal("x", "p"), lambda: Vault().open(sealed, "p")):
        with pytest.raises(UnavailableError, match="PENSTOCK_SECRETS_KEY_FILE"):
            work()


@pytest.mark.parametrize("text", ["", "JBSWY3DPEHPK3PXP", "v1", "v1.", "v2.00.AA", "v1..AAAA"])
def test_what_was_never_sealed_does_not_open(tmp_path: Path, text: str) -> None:
    with pytest.raises((ValueError, UnavailableError)):
        loaded(tmp_path / "key").open(text, "p")
