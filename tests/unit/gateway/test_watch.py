"""Files are taken over when they change and are right, and left when they are not."""

import os
import ssl
from pathlib import Path

import pytest

from penstock.base.clock import SystemClock
from penstock.base.errors import StartupError
from penstock.drivers.pki import SERVER_NAME, FactoryCa
from penstock.gateway.watch import Certificate, ConfigFile, Watched, engine_certificate
from tests.support.certificates import self_signed
from tests.support.gateway_wire import Bench


def test_a_change_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    watched = Watched(path)
    assert not watched.changed()
    path.write_text("a")
    assert watched.changed()
    assert not watched.changed()
    path.write_text("b")
    os.utime(path, ns=(1, 1))
    assert watched.changed()
    path.unlink()
    assert not watched.changed(), "a file that is gone changes nothing"


def test_a_configuration_is_taken_over_or_left(tmp_path: Path) -> None:
    bench = Bench()
    path = tmp_path / "gateway.toml"
    path.write_text("")
    file = ConfigFile(path, bench.core)
    before = bench.core.directory.keys
    file.check()
    assert bench.core.directory.keys is before
    path.write_text("nonsense")
    file.check()
    assert bench.core.directory.keys is before
    assert bench.core.metrics.reload_failures == 1
    path.write_text('[[keys]]\nkey = "new"\n[[models]]\nname = "m"\nupstreams = ["http://h"]\n')
    file.check()
    assert [key.entry.id for key in bench.core.directory.keys.values()] == ["key_0"]
    assert bench.core.directory.version == 2
    bench.close()


def served(certificate: Certificate) -> bytes:
    """Return the certificate that a handshake with its context shows, without a socket."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    ends = [
        client.wrap_bio(to_client, to_server),
        certificate.context.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:  # the other end has its turn
                continue
    shown = ends[0].getpeercert(binary_form=True)
    assert shown is not None
    return shown


def test_a_certificate_is_replaced_when_both_files_belong_together(tmp_path: Path) -> None:
    pem, key = self_signed(tmp_path, "one")
    certificate = Certificate(pem, key)
    first = served(certificate)
    new_pem, new_key = self_signed(tmp_path, "two")
    new_pem.replace(pem)
    certificate.check()
    assert served(certificate) == first, "the new certificate does not belong to the old key"
    new_key.replace(key)
    certificate.check()
    assert served(certificate) != first


def test_a_certificate_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    pem, _ = self_signed(tmp_path, "one")
    _, key = self_signed(tmp_path, "two")
    with pytest.raises(StartupError, match="check both files"):
        Certificate(pem, key)


def test_what_is_shown_to_relays_is_replaced_and_what_is_spoilt_is_not_taken(tmp_path: Path) -> None:
    ca = FactoryCa(tmp_path / "pki", SystemClock())
    ca.ensure()
    certificate, authority = ca.gateway_certificate(tmp_path / "gateway")
    shown = engine_certificate(certificate, authority)
    assert shown.context.verify_mode is ssl.CERT_REQUIRED
    assert shown.context.check_hostname
    first = asked(shown, ca)
    certificate.write_bytes(b"nonsense")
    shown.check()
    assert asked(shown, ca) == first
    ca.gateway_certificate(tmp_path / "gateway")
    shown.check()
    assert asked(shown, ca) != first
    for files in ((tmp_path / "none", authority), (certificate, tmp_path / "none")):
        with pytest.raises(StartupError, match="cannot be used"):
            engine_certificate(*files)


def asked(shown: Certificate, ca: FactoryCa) -> bytes:
    """Return the client certificate that a handshake with its context shows, without a socket."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    relay = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    relay.load_cert_chain(*ca.server_certificate(()))
    relay.load_verify_locations(cadata=ca.ca_pem)
    relay.verify_mode = ssl.CERT_REQUIRED
    server = relay.wrap_bio(to_server, to_client, server_side=True)
    ends = [shown.context.wrap_bio(to_client, to_server, server_hostname=SERVER_NAME), server]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:  # the other end has its turn
                continue
    found = server.getpeercert(binary_form=True)
    assert found is not None
    return found
