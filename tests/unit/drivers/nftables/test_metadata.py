"""What stands where in the metadata service, and whose a session token is."""

import base64

import pytest

from penstock.drivers.nftables.metadata import Tokens, look_up

GUEST = {
    "instance-id": "svc_1",
    "public-keys": {"0": {"openssh-key": "ssh-ed25519 AAAA laptop"}},
    "tags": {"instance": {"role": "web", "team/own": "a b"}},
}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "instance-id\npublic-keys/\ntags/"),
        ("instance-id", "svc_1"),
        ("instance-id/x", None),
        ("nothing", None),
        ("public-keys/", "0=key-0"),
        ("public-keys/0", "openssh-key"),
        ("public-keys/0/openssh-key", "ssh-ed25519 AAAA laptop"),
        ("public-keys/1", None),
        ("tags", "instance/"),
        ("tags/instance/", "role\nteam/own"),
        ("tags/instance/role", "web"),
        ("tags/instance/team/own", "a b"),
        ("tags/instance/team", None),
    ],
)
def test_paths(path: str, said: str | None) -> None:
    assert look_up(GUEST, path) == said


def test_a_token_is_one_guests_and_for_its_time() -> None:
    now = [100.0]
    tokens = Tokens(b"key", lambda: now[0])
    token = tokens.give("10.0.0.2", 60)
    assert tokens.holds("10.0.0.2", token)
    assert not tokens.holds("10.0.0.3", token)
    assert not Tokens(b"other", lambda: now[0]).holds("10.0.0.2", token)
    for forged in ("", "x", token[:-4], "\xff", base64.urlsafe_b64encode("200.é".encode()).decode()):
        assert not tokens.holds("10.0.0.2", forged), forged
    now[0] = 160.0
    assert not tokens.holds("10.0.0.2", token)
