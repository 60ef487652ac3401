"""Signatures hold for exactly the text that was signed, and the key outlives the process."""

from pathlib import Path

import pytest

from penstock.base.errors import StartupError
from penstock.drivers.pki.signing import Signer, verify


def test_a_signature_is_of_one_text_and_one_key() -> None:
    signer = Signer()
    signature = signer.sign("nothing is left")
    assert verify("nothing is left", signature, signer.public_key)
    assert not verify("nothing is Left", signature, signer.public_key)
    assert not verify("nothing is left", signature, Signer().public_key)
    assert not verify("nothing is left", "no base64", signer.public_key)
    assert not verify("nothing is left", signature, "c2hvcnQ=")


def test_the_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "proof.pem"
    first = Signer.from_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer.from_file(path).public_key == first.public_key
    path.write_text("damaged")
    with pytest.raises(StartupError, match="damaged"):
        Signer.from_file(path)
