"""Keys are read as OpenSSH reads them, and what is none is told apart."""

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.domain.ssh_key import parse
from tests.support.machine_objects import SSH_KEY


def _rsa(bits: int) -> str:
    parts = [b"ssh-rsa", b"\x01\x00\x01", b"\0" + b"\xff" * (bits // 8)]
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return f"ssh-rsa {base64.b64encode(blob).decode()}"


def test_the_comment_goes_and_the_fingerprint_comes() -> None:
    key = parse(f"  {SSH_KEY}\n")
    assert key.line == SSH_KEY.rpartition(" ")[0]
    assert key.fingerprint.startswith("SHA256:")
    assert parse(_rsa(2_048)).kind == "ssh-rsa"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed here")
def test_the_fingerprint_is_that_of_openssh(tmp_path: Path) -> None:
    file = tmp_path / "key.pub"
    file.write_text(SSH_KEY + "\n")
    said = subprocess.run(["ssh-keygen", "-lf", str(file)], capture_output=True, text=True, check=True).stdout
    assert parse(SSH_KEY).fingerprint in said.split()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "one line"),
        ("hello", "one line"),
        (f"{SSH_KEY}\n{SSH_KEY}", "one line"),
        ('command="rm -rf /" ' + SSH_KEY, "one line"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
        ("ssh-ed25519 !!!", "base64"),
        ("ssh-ed25519 AAAA", "cut short"),
        (_rsa(2_048).replace("ssh-rsa ", "ssh-ed25519 "), "another kind"),
        (_rsa(1_024), "2048 bits"),
        ("ssh-ed25519 " + "A" * limits.SSH_KEY_CHARACTERS_MAX, "characters at most"),
    ],
)
def test_what_is_no_key_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        parse(text)
    assert caught.value.field == "public_key"


@given(st.text(max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    try:
        parse(text)
    except InvalidInputError as error:
        assert error.field == "public_key"  # noqa: PT017 - either a key or this error, never another
