"""Who enters the console and stays: passwords, second factors, forged forms, expiry, fresh passwords, headers."""

import re
from datetime import timedelta

from penstock.base import limits
from penstock.base.clock import ManualClock, to_epoch_us
from penstock.console.secure import BASE
from penstock.domain import totp
from penstock.domain.role import Role
from tests.fixtures.console import People
from tests.support.console import PASSWORD, Person, forms, make_person, words


def test_nobody_sees_a_page_before_logging_in_and_comes_back_to_it_afterwards(people: People) -> None:
    guest = Person(people.browser(), "member@acme.test")
    refused = guest.get("/services?show=over")
    assert refused.status_code == 303
    assert refused.headers["location"] == f"{BASE}/login?next=%2Fservices%3Fshow%3Dover"
    page = guest.get("/login?next=/services?show=over")
    body = {**forms(page.text)[f"{BASE}/login"], "email": guest.name, "password": PASSWORD}
    entered = guest.client.post(f"{BASE}/login", data=body, follow_redirects=False)
    assert entered.headers["location"] == f"{BASE}/services?show=over"
    assert guest.get("/services?show=over").status_code == 200


def test_a_log_in_leads_to_pages_of_the_console_only(people: People) -> None:
    for wanted in ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"):
        guest = Person(people.browser(), "member@acme.test")
        assert guest.log_in(next=wanted).headers["location"] == f"{BASE}/"


def test_wrong_passwords_and_unknown_names_look_the_same(people: People) -> None:
    known, unknown = Person(people.browser(), "member@acme.test"), Person(people.browser(), "x@acme.test")
    answers = [one.log_in(password="not the password") for one in (known, unknown)]
    assert [one.status_code for one in answers] == [401, 401]
    assert len({words(one.text).replace(known.name, "").replace(unknown.name, "") for one in answers}) == 1
    assert known.session is None


def test_the_cookie_is_kept_from_scripts_and_from_other_sites(people: People) -> None:
    guest = Person(people.browser(), "member@acme.test")
    cookie = next(
        value for value in guest.log_in().headers.get_list("set-cookie") if "penstock_session" in value
    )
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert f"Path={BASE}" in cookie
    assert f"Max-Age={int(limits.SESSION_LIFE.total_seconds())}" in cookie
    assert "Secure" not in cookie  # plain HTTP on the loopback; behind TLS it says so
    secure = people.browser()
    secure.base_url = "https://factory.test"
    cookies = Person(secure, "member@acme.test").log_in().headers.get_list("set-cookie")
    assert all("Secure" in value for value in cookies if "Max-Age=0" not in value)


def test_every_answer_carries_the_policy_and_nothing_is_inline(people: People) -> None:
    for path in ("/login", "/", "/nowhere", "/services/svc_0", "/static/0/base.css", "/static/0/nothing"):
        answer = people.admin.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|javascript:", answer.text), path


def test_pages_are_never_kept_and_files_with_a_digest_for_good(people: People) -> None:
    page = people.admin.get("/")
    assert page.headers["cache-control"] == "no-store"
    style = re.search(rf"{BASE}(/static/[0-9a-f]+/base\.css)", page.text)
    assert style is not None
    kept = people.admin.get(style[1])
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert kept.headers["content-encoding"] == "gzip"
    assert people.admin.get("/static/000000000000/base.css").headers["cache-control"] == "no-cache"


def test_a_form_without_its_token_or_from_another_site_changes_nothing(people: People) -> None:
    path = "/keys"
    body = {"name": "forged", "scope": "llm", "days": "7"}
    assert people.member.send(path, body, csrf=False).status_code == 403
    assert people.member.send(path, {**body, "csrf": people.admin.csrf}, csrf=False).status_code == 403
    body["csrf"] = people.member.csrf
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        answer = people.member.client.post(f"{BASE}{path}", data=body, headers=headers)
        assert answer.status_code == 403, headers
    assert "forged" not in people.member.get(path).text
    assert "Your new key" in people.member.send(path, body).text


def test_a_forged_log_in_is_refused(people: People) -> None:
    guest = Person(people.browser(), "member@acme.test")
    body = {"email": guest.name, "password": PASSWORD, "csrf": "guessed", "next": "/"}
    assert guest.client.post(f"{BASE}/login", data=body).status_code == 403
    assert guest.session is None


def test_logging_out_ends_the_session_everywhere(people: People) -> None:
    key = people.member.session
    assert people.member.send("/logout").headers["location"] == f"{BASE}/login"
    assert people.member.session is None
    thief = Person(people.browser())
    thief.client.cookies.set("penstock_session", key or "", path=BASE)
    assert thief.get("/").status_code == 303


def test_an_idle_session_ends_and_a_used_one_ends_when_its_time_is_over(
    people: People, clock: ManualClock
) -> None:
    for person in (people.admin, people.member):
        assert person.get("/account").status_code == 200
    half = limits.SESSION_IDLE / 2
    for _ in range(int(limits.SESSION_LIFE / half) - 1):
        clock.advance(half)
        assert people.member.get("/account").status_code == 200
    assert people.admin.get("/account").status_code == 303, "nobody used it"
    clock.advance(half)
    assert people.member.get("/account").status_code == 303, "twelve hours are over"


def test_a_page_that_refreshes_itself_is_no_sign_of_a_person(people: People, clock: ManualClock) -> None:
    for _ in range(4):
        clock.advance(limits.SESSION_IDLE / 3)
        answer = people.member.get("/account", headers={"X-Penstock-Live": "1"})
    assert answer.status_code == 401
    assert answer.headers["hx-redirect"] == f"{BASE}/login"


def test_an_idle_session_is_no_key_for_the_api_either(people: People, clock: ManualClock) -> None:
    headers = {"Authorization": f"Bearer {people.member.session}"}
    assert people.member.client.get("/v1/whoami", headers=headers).status_code == 200
    clock.advance(limits.SESSION_IDLE)
    assert people.member.client.get("/v1/whoami", headers=headers).status_code == 401


def test_an_api_key_does_not_open_the_console(people: People) -> None:
    guest = Person(people.browser())
    guest.client.cookies.set("penstock_session", people.acme.admin.key, path=BASE)
    assert guest.get("/").status_code == 303


def test_what_is_dangerous_wants_a_fresh_password(people: People, clock: ManualClock) -> None:
    path = f"/tenants/{people.globex.id}/suspend"
    assert people.operator.get(path).status_code == 200, "the log-in was a moment ago"
    clock.advance(limits.PROOF_LIFE)
    asked = people.operator.get(path)
    assert asked.headers["location"] == f"{BASE}/proof?next={path.replace('/', '%2F').replace('%2F', '/')}"
    refused = people.operator.send(path)
    assert refused.status_code == 303
    assert "/proof" in refused.headers["location"]
    assert people.stranger.get("/").status_code == 200, "nothing happened yet"
    wrong = people.operator.send("/proof", {"password": "not it", "next": path})
    assert wrong.status_code == 403
    proved = people.operator.send("/proof", {"password": PASSWORD, "next": path})
    assert proved.headers["location"] == f"{BASE}{path}"
    assert people.operator.send(path).headers["location"] == f"{BASE}/tenants/{people.globex.id}"
    assert people.stranger.get("/").status_code == 303, "suspended: refused at once"


def test_a_second_factor_is_set_up_asked_for_and_used_once(people: People, clock: ManualClock) -> None:
    page = people.member.send("/account/second-factor").text
    filled = forms(page)[f"{BASE}/account/second-factor/confirm"]
    secret = filled["secret"]
    assert "<svg" in page
    assert (
        people.member.send("/account/second-factor/confirm", {**filled, "code": "000000"}).status_code == 422
    )

    def code() -> str:
        return totp.code_at(secret, to_epoch_us(clock.now()) // 30_000_000)

    done = people.member.send("/account/second-factor/confirm", {**filled, "code": code()})
    recovery = re.findall(r"<li>([a-z2-7]{5}-[a-z2-7]{5})</li>", done.text)
    assert len(recovery) == limits.RECOVERY_CODES

    guest = Person(people.browser(), "member@acme.test")
    asked = guest.log_in()
    assert asked.status_code == 200
    assert "one-time-code" in asked.text
    assert guest.session is None
    assert guest.log_in(code=code()).status_code == 401, "the code that confirmed it was used"
    clock.advance(timedelta(seconds=30))
    assert guest.log_in(code=code()).status_code == 303
    assert Person(people.browser(), "member@acme.test").log_in(code=code()).status_code == 401
    other = Person(people.browser(), "member@acme.test")
    assert other.log_in(code=recovery[0].upper()).status_code == 303
    assert Person(people.browser(), "member@acme.test").log_in(code=recovery[0]).status_code == 401


def test_the_api_asks_for_the_second_factor_too(people: People, clock: ManualClock) -> None:
    filled = forms(people.member.send("/account/second-factor").text)[f"{BASE}/account/second-factor/confirm"]
    step = to_epoch_us(clock.now()) // 30_000_000
    people.member.send(
        "/account/second-factor/confirm", {**filled, "code": totp.code_at(filled["secret"], step)}
    )
    body = {"email": "member@acme.test", "password": PASSWORD}
    refused = people.member.client.post("/v1/sessions", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "second_factor_required")
    clock.advance(timedelta(seconds=30))
    body["code"] = totp.code_at(filled["secret"], step + 1)
    assert people.member.client.post("/v1/sessions", json=body).status_code == 201


def test_an_administrator_helps_who_lost_password_and_authenticator(
    people: People, clock: ManualClock
) -> None:
    filled = forms(people.member.send("/account/second-factor").text)[f"{BASE}/account/second-factor/confirm"]
    step = to_epoch_us(clock.now()) // 30_000_000
    people.member.send(
        "/account/second-factor/confirm", {**filled, "code": totp.code_at(filled["secret"], step)}
    )
    page = people.admin.get("/members").text
    owner = re.findall(r'name">member@acme\.test.*?/members/(usr_\w+)/reset', page, re.DOTALL)
    path = f"/members/{owner[0]}/reset"
    assert people.stranger.send(path, {"password": "a stranger's password"}).status_code == 404
    done = people.admin.send(path, {"password": "another good password", "second_factor": "on"})
    assert done.status_code == 303
    assert people.member.get("/").status_code == 303, "all sessions ended"
    guest = Person(people.browser(), "member@acme.test")
    assert guest.log_in(password="another good password").status_code == 303


def test_a_member_of_one_project_enters_and_sees_that_project_only(people: People) -> None:
    one = make_person(
        people.plane,
        people.browser,
        "guest@acme.test",
        Role.MEMBER,
        tenant_id=people.acme.id,
        project_id=people.acme.project_id,
    )
    for path in ("/", "/catalogue", "/services", "/keys", "/usage", "/quotas", "/playground", "/events"):
        assert one.get(path).status_code == 200, path
    assert one.get("/invoices").status_code == 403, "an invoice covers the whole tenant"
