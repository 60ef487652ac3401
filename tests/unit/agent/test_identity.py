"""The folder that says who an agent is: private, replaced as a whole, and never half an identity."""

import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.agent.identity import Identity, IdentityFolder, trust
from penstock.base.clock import ManualClock
from penstock.base.errors import StartupError
from penstock.base.ids import new_id
from penstock.drivers.pki import FactoryCa, certificates

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
AGENT = new_id("agent", START)
IDENTITY = Identity(AGENT, "n1", "https://127.0.0.1:7402", "local")


@pytest.fixture
def ca(tmp_path: Path) -> FactoryCa:
    made = FactoryCa(tmp_path / "ca", ManualClock(START))
    made.ensure()
    return made


@pytest.fixture
def folder(tmp_path: Path, ca: FactoryCa) -> IdentityFolder:
    made = IdentityFolder(tmp_path / "identity")
    save(made, ca)
    return made


def save(folder: IdentityFolder, ca: FactoryCa, identity: Identity = IDENTITY) -> None:
    key = certificates.new_key()
    signed = ca.sign_agent_csr(certificates.new_request(key, "n1"), AGENT, timedelta(days=1))
    folder.save(identity, ca.ca_pem, signed.pem, key)


def test_what_was_saved_is_loaded(folder: IdentityFolder) -> None:
    assert folder.exists()
    assert IdentityFolder(folder.folder).load() == IDENTITY
    begin, end = folder.validity()
    assert begin < START
    assert end == START + timedelta(days=1)
    assert folder.tls().verify_mode is ssl.CERT_REQUIRED


def test_everything_is_private(folder: IdentityFolder) -> None:
    assert stat.S_IMODE(folder.folder.stat().st_mode) == 0o700
    for file in folder.folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_key_that_others_may_read_is_not_used(folder: IdentityFolder) -> None:
    (folder.folder / "agent.pem").chmod(0o644)
    with pytest.raises(StartupError, match="chmod 600"):
        folder.load()


def test_a_machine_that_has_not_joined_is_told_how(tmp_path: Path) -> None:
    nobody = IdentityFolder(tmp_path / "nobody")
    assert not nobody.exists()
    with pytest.raises(StartupError, match="penstock agent join"):
        nobody.load()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("identity.json", b""),
        ("identity.json", b"[]"),
        ("identity.json", b'{"agent_id": "x"}'),
        ("agent.pem", b""),
        ("agent.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ],
)
def test_a_spoilt_identity_is_no_identity_and_says_what_to_do(
    folder: IdentityFolder, name: str, content: bytes
) -> None:
    (folder.folder / name).write_bytes(content)
    with pytest.raises(StartupError, match="join again"):
        folder.load()


def test_a_join_that_was_cut_off_leaves_no_identity(
    folder: IdentityFolder, ca: FactoryCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = IdentityFolder._write

    def cut(self: IdentityFolder, name: str, content: bytes) -> None:
        if name == "identity.json":
            raise KeyboardInterrupt
        write(self, name, content)

    monkeypatch.setattr(IdentityFolder, "_write", cut)
    with pytest.raises(KeyboardInterrupt):
        save(folder, ca, Identity(AGENT, "n2", "https://other:1", "elsewhere"))
    assert not folder.exists()  # neither the new one nor a mixture with the old one


def test_a_certificate_for_another_key_is_refused_and_the_old_one_stays(
    folder: IdentityFolder, ca: FactoryCa
) -> None:
    before = (folder.folder / "agent.pem").read_bytes()
    asked = certificates.new_request(certificates.new_key(), "n1")
    signed = ca.sign_agent_csr(asked, AGENT, timedelta(days=1))
    for pem in (signed.pem, "no certificate"):
        with pytest.raises(StartupError):
            folder.replace_certificate(pem, certificates.new_key())
    assert (folder.folder / "agent.pem").read_bytes() == before


def test_a_folder_belongs_to_one_agent_at_a_time(folder: IdentityFolder) -> None:
    held = folder.hold()
    with pytest.raises(StartupError, match=f"process {os.getpid()}"):
        IdentityFolder(folder.folder).hold()
    os.close(held)
    os.close(folder.hold())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="file"):
        IdentityFolder(tmp_path / "file" / "identity").prepare()


def test_only_the_factorys_authority_is_trusted(ca: FactoryCa) -> None:
    context = trust(ca.ca_pem)
    assert len(context.get_ca_certs()) == 1
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    with pytest.raises(ssl.SSLError):
        trust("no certificate")
