"""The authority and the gateway's certificate in a data folder."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.base.clock import ManualClock
from penstock.base.errors import StartupError
from penstock.drivers.pki.authority import GATEWAY_CERTIFICATE_LIFE
from penstock.up.agents import gateway_files, open_authority


def test_the_gateways_files_are_made_kept_and_renewed(tmp_path: Path) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    ca = open_authority(tmp_path, clock)
    certificate, authority = gateway_files(ca, tmp_path)
    assert {certificate.parent, authority.parent} == {tmp_path / "relay"}
    assert authority.read_text() == ca.ca_pem
    assert stat.S_IMODE(certificate.stat().st_mode) == 0o600
    first = certificate.read_bytes()
    again = open_authority(tmp_path, clock)
    assert gateway_files(again, tmp_path) == (certificate, authority)
    assert certificate.read_bytes() == first
    clock.advance(GATEWAY_CERTIFICATE_LIFE / 2 + timedelta(minutes=1))
    gateway_files(again, tmp_path)
    assert certificate.read_bytes() != first


def test_what_stands_in_the_way_is_said(tmp_path: Path) -> None:
    ca = open_authority(tmp_path, ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))
    (tmp_path / "relay").write_text("a file")
    with pytest.raises(StartupError, match=r"gateway's certificate .*relay cannot be written"):
        gateway_files(ca, tmp_path)
    (tmp_path / "pki" / "authority.pem").write_text("spoilt")
    with pytest.raises(StartupError, match=r"authority\.pem"):
        open_authority(tmp_path, ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))
