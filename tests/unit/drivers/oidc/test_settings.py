"""The file of OpenID providers: what it says, and a sentence for everything that may be wrong in it."""

from pathlib import Path

import pytest

from penstock.base.errors import StartupError
from penstock.domain.role import Role
from penstock.drivers.oidc.settings import load

GOOD = """
public_url = "https://factory.example/"
[[provider]]
name = "corp"
title = "Example ID"
issuer = "https://id.example"
client_id = "penstock"
client_secret_file = "oidc.secret"
[[provider.grant]]
group = "ops"
role = "operator"
[[provider.grant]]
group = "acme"
role = "member"
tenant = "acme"
project = "research"
"""


def write(folder: Path, text: str) -> Path:
    (folder / "oidc.secret").write_text("s3cret\n")
    file = folder / "oidc.toml"
    file.write_text(text)
    return file


def test_a_provider_is_read_with_its_secret_and_grants(tmp_path: Path) -> None:
    (found,) = load(write(tmp_path, GOOD))
    assert (found.name, found.title, found.client_secret) == ("corp", "Example ID", "s3cret")
    assert found.redirect_url == "https://factory.example/console/oidc/corp/callback"
    assert found.scopes == ("openid", "email", "groups")
    assert [(one.group, one.role, one.tenant, one.project) for one in found.grants] == [
        ("ops", Role.OPERATOR, None, None),
        ("acme", Role.MEMBER, "acme", "research"),
    ]
    assert not found.verifies_emails


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('issuer = "https://id.example"', "", "issuer is missing"),
        ("https://id.example", "http://id.example", "issuer must begin with https"),
        ("https://id.example", "https://user@id.example", "without user"),
        ("https://factory.example/", "http://factory.example/", "public_url must begin with https"),
        ('name = "corp"', 'name = "Corp/../x"', "small letters"),
        ('client_id = "penstock"', 'client_id = ""', "client_id must be a text"),
        ('client_id = "penstock"', "client_id = 7", "client_id must be a text"),
        ("oidc.secret", "gone.secret", "gone.secret cannot be read"),
        ('role = "operator"', 'role = "king"', "king"),
        ('role = "operator"', 'role = "member"', "name the tenant"),
        ('group = "ops"', 'groups = "ops"', "no field 'groups'"),
        ('title = "Example ID"', 'title = "Example ID"\nscopes = ["email"]', "must contain openid"),
        ("[[provider]]", "[provider]", "oidc.toml"),
        ('public_url = "https://factory.example/"', "", "public_url is missing"),
        ("[[provider]]", "[[provider", "no TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in GOOD
    with pytest.raises(StartupError, match=sentence):
        load(write(tmp_path, GOOD.replace(old, new, 1)))


def test_two_providers_of_one_name_are_refused(tmp_path: Path) -> None:
    second = GOOD.partition("[[provider]]")[2]
    with pytest.raises(StartupError, match="same name"):
        load(write(tmp_path, f"{GOOD}\n[[provider]]{second}"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="gone"):
        load(tmp_path / "gone.toml")
