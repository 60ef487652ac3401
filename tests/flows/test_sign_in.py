"""Signing in through a real, certified OpenID provider: who gets in, as whom, and what nobody gets by it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import sqlalchemy as sa

from penstock.base import limits
from penstock.base.clock import ManualClock, SystemClock
from penstock.console.secure import BASE
from penstock.store.database import SYSTEM
from penstock.store.schema import api_key
from tests.fixtures.console import People
from tests.support.console import Person, forms, words
from tests.support.oidc_provider import ProviderBrowser, RealProvider, missing, real_provider
from tests.support.ports import free_port

FACTORY = "http://127.0.0.1:7070"
NAME = "corp"
USERS: dict[str, Any] = {
    "ada": {"email": "ada@corp.test", "email_verified": True, "groups": ["acme-admins", "everybody"]},
    "bob": {"email": "bob@corp.test", "email_verified": True, "groups": ["acme-people"]},
    "ops": {"email": "ops@corp.test", "email_verified": True, "groups": ["factory"]},
    "eve": {"email": "eve@corp.test", "email_verified": True, "groups": ["everybody"]},
    "mim": {"email": "member@acme.test", "email_verified": True, "groups": ["acme-admins"]},
    "unv": {"email": "unv@corp.test", "email_verified": False, "groups": ["acme-people"]},
}
SETTINGS = """
public_url = "{factory}"
[[provider]]
name = "corp"
title = "Corp ID"
issuer = "{issuer}"
client_id = "penstock"
client_secret_file = "oidc.secret"
[[provider.grant]]
group = "acme-admins"
role = "tenant_admin"
tenant = "acme"
[[provider.grant]]
group = "acme-people"
role = "member"
tenant = "acme"
[[provider.grant]]
group = "factory"
role = "operator"
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[RealProvider]:
    """The provider; skipped where Node or its packages are absent."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with real_provider([f"{FACTORY}{BASE}/oidc/{NAME}/callback"], USERS, free_port()) as running:
        yield running


@dataclass
class Door:
    """The factory's console, with the provider set up."""

    people: People
    provider: RealProvider

    def guest(self) -> Person:
        """Return somebody who is not logged in."""
        return Person(self.people.browser())

    def leave(self, person: Person, query: str = "") -> str:
        """Press the button; return the provider's address."""
        answer = person.get(f"/oidc/{NAME}{query}")
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def come_back(self, person: Person, address: str) -> httpx.Response:
        """Follow the provider's way back."""
        parts = urlsplit(address)
        return person.get(f"{parts.path.removeprefix(BASE)}?{parts.query}")

    def sign_in(self, person: Person, name: str, browser: ProviderBrowser | None = None) -> httpx.Response:
        """Go there, sign in, come back."""
        there = browser or self.provider.browser()
        return self.come_back(person, there.sign_in(self.leave(person), name))


@pytest.fixture
def door(people: People, provider: RealProvider, tmp_path: Path, clock: ManualClock) -> Iterator[Door]:
    """Real time: the provider's tokens say when they were made."""
    clock.advance(SystemClock().now() - clock.now())
    (tmp_path / "oidc.secret").write_text("secret of a test\n")
    file = tmp_path / "oidc.toml"
    file.write_text(SETTINGS.format(factory=FACTORY, issuer=provider.issuer))
    people.plane.sign_in_through(file)
    yield Door(people, provider)
    provider.close_browsers()


def who(person: Person) -> Any:
    headers = {"Authorization": f"Bearer {person.session}"}
    return person.browser.get("/v1/whoami", headers=headers).json()


def test_a_group_member_gets_a_session_and_comes_back_as_the_same_user(door: Door) -> None:
    page = door.guest().get("/login?next=/services").text
    assert "Log in with Corp ID" in page
    assert f"{BASE}/oidc/{NAME}?next=%2Fservices" in page
    ada = door.guest()
    address = door.leave(ada, "?next=/services")
    asked = parse_qs(urlsplit(address).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["scope"] == ["openid email groups"]
    assert {"state", "nonce", "code_challenge"} <= asked.keys()
    entered = door.come_back(ada, door.provider.browser().sign_in(address, "ada"))
    assert entered.headers["location"] == f"{BASE}/services"
    assert ada.get("/members").status_code == 200
    told = who(ada)
    assert told["principal"]["name"] == "ada@corp.test"
    assert [role["role"] for role in told["roles"]] == ["tenant_admin"]
    assert told["tenant"]["name"] == "acme"
    again = door.guest()
    assert door.sign_in(again, "ada").status_code == 303
    assert who(again)["principal"]["id"] == told["principal"]["id"]
    trail = words(ada.get("/audit").text)
    assert "user.created" in trail
    assert "session.create" in trail


def test_operators_and_members_get_their_own_menus(door: Door) -> None:
    ops, bob = door.guest(), door.guest()
    door.sign_in(ops, "ops")
    door.sign_in(bob, "bob")
    assert ops.get("/floor").status_code == 200
    assert bob.get("/floor").status_code == 403
    assert bob.get("/services").status_code == 200


def test_whom_no_grant_names_and_whose_address_is_unconfirmed_stay_out(door: Door) -> None:
    for name, sentence in (("eve", "none of your groups"), ("unv", "no confirmed e-mail address")):
        person = door.guest()
        refused = door.sign_in(person, name)
        assert refused.status_code == 403
        assert sentence in refused.text.lower()
        assert person.session is None
    assert "eve@corp.test" not in door.people.admin.get("/members").text


def test_the_same_address_takes_no_account_over_until_its_owner_links_it(door: Door) -> None:
    thief = door.guest()
    refused = door.sign_in(thief, "mim")
    assert refused.status_code == 409
    assert "link Corp ID" in refused.text
    assert thief.session is None

    owner, browser = door.people.member, door.provider.browser()
    page = owner.send(f"/oidc/{NAME}/link")
    assert page.status_code == 200
    address = (
        page.text.split('rel="noreferrer"')[0].rpartition('href="')[2].rstrip('" ').replace("&amp;", "&")
    )
    linked = door.come_back(owner, browser.sign_in(address, "mim"))
    assert linked.headers["location"] == f"{BASE}/account"
    assert "Corp ID opens this account" in words(owner.get("/account").text)
    inside = door.guest()
    assert door.sign_in(inside, "mim").status_code == 303
    told = who(inside)
    assert told["principal"]["name"] == "member@acme.test"
    assert [role["role"] for role in told["roles"]] == ["member"], "a linked account keeps its own roles"
    identity = next(path for path in forms(owner.get("/account").text) if "/account/identities/" in path)
    assert owner.send(identity.removeprefix(BASE)).status_code == 303
    assert door.sign_in(door.guest(), "mim").status_code == 409


def test_an_answer_is_good_for_the_browser_that_asked_and_once(door: Door) -> None:
    ada, other = door.guest(), door.guest()
    back = door.provider.browser().sign_in(door.leave(ada), "ada")
    door.leave(other)
    refused = door.come_back(other, back)
    assert refused.status_code == 403
    assert "in another browser" in refused.text
    assert other.session is None
    assert door.come_back(ada, back.replace("state=", "state=x")).status_code == 403
    assert door.come_back(ada, back).status_code == 403, "the note went with the first try"
    last = door.guest()
    address = door.leave(last)
    note = last.browser.cookies.get("penstock_sign_in") or ""
    back = door.provider.browser().sign_in(address, "ada")
    assert door.come_back(last, back).status_code == 303
    last.browser.cookies.set("penstock_sign_in", note, path=BASE)
    assert door.come_back(last, back).status_code == 401, "the provider takes a code once"


def test_a_note_ends_and_a_forged_one_opens_nothing(door: Door, clock: ManualClock) -> None:
    ada = door.guest()
    back = door.provider.browser().sign_in(door.leave(ada), "ada")
    ada.browser.cookies.clear()
    ada.browser.cookies.set("penstock_sign_in", "v1.00000000.AAAA", path=BASE)
    assert door.come_back(ada, back).status_code in (403, 503)
    slow = door.guest()
    back = door.provider.browser().sign_in(door.leave(slow), "ada")
    clock.advance(limits.SIGN_IN_LIFE * 2)
    assert door.come_back(slow, back).status_code == 403


def test_roles_follow_the_groups_at_the_next_sign_in(door: Door) -> None:
    bob = door.guest()
    door.sign_in(bob, "bob")
    settings = door.people.plane.context.providers[NAME].settings
    fewer = tuple(grant for grant in settings.grants if grant.group != "acme-people")
    object.__setattr__(settings, "grants", fewer)
    assert door.sign_in(door.guest(), "bob").status_code == 403
    assert bob.get("/services").status_code == 403, "his roles are gone at once, for open sessions too"


def test_a_disabled_user_stays_out(door: Door) -> None:
    bob = door.guest()
    door.sign_in(bob, "bob")
    user = who(bob)["principal"]["id"]
    assert door.people.admin.send(f"/members/{user}/disable").status_code == 303
    refused = door.sign_in(door.guest(), "bob")
    assert refused.status_code == 401
    assert "disabled" in refused.text


def test_what_is_dangerous_wants_a_fresh_sign_in_at_the_provider(door: Door, clock: ManualClock) -> None:
    ops, browser = door.guest(), door.provider.browser()
    door.sign_in(ops, "ops", browser)
    with door.people.plane.db.transaction(SYSTEM) as connection:  # the provider's clock cannot be moved
        before = clock.now() - limits.PROOF_LIFE
        connection.execute(sa.update(api_key).where(api_key.c.session).values(proved_at=before))
    path = f"/tenants/{door.people.globex.id}/suspend"
    asked = ops.send(path)
    assert "/proof" in asked.headers["location"]
    page = ops.get(asked.headers["location"].removeprefix(BASE)).text
    assert "Sign in again with Corp ID" in page
    left = ops.send(f"/oidc/{NAME}/prove", {"next": path}).text
    address = left.split('rel="noreferrer"')[0].rpartition('href="')[2].rstrip('" ').replace("&amp;", "&")
    asked_before = browser.asked
    back = browser.sign_in(address, "ops")
    assert browser.asked == asked_before + 1, "the provider asked again though it knew the browser"
    assert door.come_back(ops, back).headers["location"] == f"{BASE}{path}"
    assert ops.send(path).headers["location"] == f"{BASE}/tenants/{door.people.globex.id}"
