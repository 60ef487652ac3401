"""Load balancers and certificates at the console: made, looked at, followed, deleted; what is wrong is said and leaves nothing."""

import re
from dataclasses import replace
from typing import Any

from penstock.console.secure import BASE
from tests.fixtures.console import People
from tests.support.console import words
from tests.support.networks import make_balancer, make_certificate, make_port
from tests.support.tenancy import Tenant
from tests.support.uploads import Elsewhere, chain, new_key, pem_of


def shown_by_api(people: People, path: str) -> dict[str, Any]:
    member = replace(people.acme.member, client=people.member.browser)
    document: dict[str, Any] = member.get(path).json()
    return document


def subnet_of(people: People) -> str:
    body = {"name": "inside", "prefix": "10.1.0.0/24", "project": people.acme.project_id}
    assert people.member.send("/networks", body).status_code == 303
    return str(shown_by_api(people, "/v1/subnets")["items"][0]["id"])


def test_a_certificate_is_issued_and_a_load_balancer_listens_with_it(people: People) -> None:
    assert "No certificates yet" in people.member.get("/certificates").text
    body = {"name": "www", "names": "www.inside.internal, 10.1.0.9", "project": people.acme.project_id}
    assert people.member.send("/certificates", {**body, "names": "a_b c/d"}).status_code == 422
    assert people.member.send("/certificates", {**body, "name": "W W"}).status_code == 422
    assert people.member.send("/certificates", body).headers["location"] == f"{BASE}/certificates"
    page = people.member.get("/certificates").text
    assert "www.inside.internal, 10.1.0.9" in words(page)
    (certificate_id,) = set(re.findall(r"crt_\w{26}", page))

    asked = {
        "name": "www",
        "subnet": subnet_of(people),
        "group": "",
        "port": "443",
        "mode": "https",
        "certificate": certificate_id,
        "algorithm": "leastconn",
        "members": "10.1.0.8:8080, 10.1.0.9:8080",
        "check": "/healthz",
    }
    for change, status in (
        ({"name": "W W"}, 422),
        ({"port": "x"}, 422),
        ({"mode": "udp"}, 422),
        ({"certificate": ""}, 422),
        ({"members": "10.1.0.8"}, 422),
        ({"members": "nobody:80"}, 422),
        ({"members": "10.9.0.8:80"}, 422),
        ({"check": "healthz"}, 422),
        ({"subnet": "sub_" + "0" * 26}, 404),
    ):
        assert people.member.send("/load-balancers", {**asked, **change}).status_code == status, change
    assert "No load balancers yet" in people.member.get("/load-balancers").text
    assert people.auditor.send("/load-balancers", asked).status_code == 403
    made = people.member.send("/load-balancers", asked)
    path = made.headers["location"].removeprefix(BASE)
    assert re.fullmatch(r"/load-balancers/lbr_\w+", path)
    shown = words(people.member.get(path).text)
    for text in ("10.1.0.8:8080", "443 https", "www.inside.internal", "waiting", "a request for /healthz"):
        assert text in shown, text
    assert path in people.member.get("/load-balancers").text
    assert path in people.member.get("/search?q=ww").text
    assert people.stranger.get(path).status_code == 404

    refused = people.member.send(f"/certificates/{certificate_id}/delete")
    assert refused.status_code == 409
    assert "new key" in words(people.member.get(f"/certificates/{certificate_id}/rotate").text).lower()
    assert people.member.send(f"/certificates/{certificate_id}/rotate").status_code == 303
    assert shown_by_api(people, f"/v1/certificates/{certificate_id}")["version"] == 2
    assert "cannot be undone" in people.member.get(f"{path}/delete").text
    assert people.member.send(f"{path}/delete").headers["location"] == f"{BASE}/load-balancers"
    assert shown_by_api(people, f"/v1{path}")["state"] == "deleting"


def acme(people: People) -> Tenant:
    """Return acme with its member at the browser, for what is made over the API."""
    return replace(people.acme, member=replace(people.acme.member, client=people.member.browser))


def brought(people: People) -> dict[str, str]:
    """Return chain and key of a certificate of another authority, as fields of a form."""
    theirs, key = Elsewhere(people.plane.clock.now()), new_key()
    return {"certificate_pem": chain(theirs.leaf(key), theirs.lower), "private_key_pem": pem_of(key)}


def edited(page: str) -> dict[str, str]:
    """Return what the form that changes a load balancer holds, its lists and choices with it."""
    fields = dict(re.findall(r'<textarea id="f-([^"]+)"[^>]*>([^<]*)</textarea>', page))
    fields |= dict(re.findall(r'<input id="f-([^"]+)" name="[^"]+" value="([^"]*)"', page))
    fields |= dict(re.findall(r'<input type="hidden" name="(revision)" value="([^"]*)"', page))
    chosen = re.findall(r'<select id="f-([^"]+)".*?<option value="([^"]*)" selected', page, re.DOTALL)
    return fields | dict(chosen)


WRONG: tuple[tuple[dict[str, str], str], ...] = (
    # changes of a load balancer, with the field beside which each is refused
    ({"listeners": ""}, "listeners"),
    ({"listeners": "80"}, "listeners"),
    ({"listeners": "80 udp"}, "listeners"),
    ({"listeners": "443 https"}, "listeners"),
    ({"listeners": "443 https nobodys"}, "listeners"),
    ({"listeners": "80 tcp\n80 http"}, "listeners"),
    ({"listeners": "\n".join(f"{n} tcp" for n in range(1, 99))}, "listeners"),
    ({"members": "web-9:80"}, "members"),
    ({"members": "web-1:x"}, "members"),
    ({"members": "web-1:80 999"}, "members"),
    ({"members": "web-1:80 1 2"}, "members"),
    ({"members": "web-1:80\nweb-1:80"}, "members"),
    ({"algorithm": "dice"}, "algorithm"),
    ({"health_check.kind": "ping"}, "health_check.kind"),
    ({"health_check.kind": "http", "health_check.path": "healthz"}, "health_check.path"),
    ({"health_check.interval_ms": "1"}, "health_check.interval_ms"),
    ({"health_check.rise": "0"}, "health_check.rise"),
    ({"health_check.fall": "x"}, "health_check.fall"),
)


def test_listeners_members_and_checks_are_changed_as_lines(people: People) -> None:
    subnet_id = subnet_of(people)
    certificate_id = make_certificate(acme(people), "www", "www.inside.internal")
    port_id = make_port(acme(people), subnet_id, "web-1", address="10.1.0.20")["id"]
    members = [{"port_id": port_id, "port": 8_080}, {"address": "10.1.0.9", "port": 8_080, "weight": 5}]
    path = f"/load-balancers/{make_balancer(acme(people), subnet_id, 'www', members=members)['id']}"
    member = people.member
    good = edited(member.get(f"{path}/edit").text)
    assert (good["listeners"], good["members"]) == ("80 tcp", "web-1:8080\n10.1.0.9:8080 5")
    for change, field in WRONG:
        refused = member.send(f"{path}/edit", {**good, **change})
        assert (refused.status_code, f'id="w-{field}"' in refused.text) == (422, True), change
    before = shown_by_api(people, f"/v1{path}")
    asked = {
        **good,
        "listeners": "443 https www\n80 http",
        "members": "web-1:8080 3\n10.1.0.8:9000",
        "algorithm": "leastconn",
        "health_check.kind": "http",
        "health_check.path": "/healthz",
        "health_check.interval_ms": "500",
    }
    assert member.send(f"{path}/edit", asked).headers["location"] == f"{BASE}{path}"
    after = shown_by_api(people, f"/v1{path}")
    assert [(one["port"], one["mode"], one["certificate_id"]) for one in after["listeners"]] == [
        (443, "https", certificate_id),
        (80, "http", None),
    ]
    assert [(one["port_id"], one["address"], one["weight"]) for one in after["members"]] == [
        (port_id, "10.1.0.20", 3),
        (None, "10.1.0.8", 1),
    ]
    assert (after["algorithm"], after["health_check"]["path"]) == ("leastconn", "/healthz")
    late = member.send(f"{path}/edit", asked)
    assert (late.status_code, "changed meanwhile" in late.text) == (409, True), (
        "of somebody who saw it before"
    )
    same = edited(member.get(f"{path}/edit").text)
    assert member.send(f"{path}/edit", same).status_code == 303
    assert shown_by_api(people, f"/v1{path}")["revision"] == after["revision"] > before["revision"]
    page = member.get(path).text
    assert f"/console/ports/{port_id}" in page
    assert f"/console/certificates/{certificate_id}" in page

    assert people.stranger.get(f"{path}/edit").status_code == 404
    assert people.stranger.send(f"{path}/edit", asked).status_code == 404
    assert people.auditor.get(f"{path}/edit").status_code == 403
    assert people.auditor.send(f"{path}/edit", asked).status_code == 403
    assert f"{path}/edit" not in people.auditor.get(path).text


def test_a_certificate_is_uploaded_and_replaced_and_its_key_never_shown(people: People) -> None:
    member, pems = people.member, brought(people)
    secret = pems["private_key_pem"].splitlines()[1]
    good = {"name": "shop", "project_id": people.acme.project_id, **pems}
    for change, field in (
        ({"name": "Shop"}, "name"),
        ({"certificate_pem": "x"}, "certificate_pem"),
        ({"certificate_pem": "-" * 80_000}, "certificate_pem"),
        ({"private_key_pem": pem_of(new_key())}, "private_key_pem"),
        ({"private_key_pem": ""}, "private_key_pem"),
    ):
        refused = member.send("/certificates/upload", {**good, **change})
        assert (refused.status_code, f'id="w-{field}"' in refused.text) == (422, True), field
        assert secret not in refused.text
    made = member.send("/certificates/upload", good)
    path = made.headers["location"].removeprefix(BASE)
    assert re.fullmatch(r"/certificates/crt_\w+", path)
    page = member.get(path).text
    assert "PRIVATE" not in page
    assert "BEGIN CERTIFICATE" in page
    for text in ("shop.test", "no, it was uploaded", "no load balancer"):
        assert text in words(page), text
    first = shown_by_api(people, f"/v1{path}")["serial"]
    assert member.send(f"{path}/content", {**brought(people), "private_key_pem": "x"}).status_code == 422
    assert member.send(f"{path}/content", brought(people)).headers["location"] == f"{BASE}{path}"
    assert shown_by_api(people, f"/v1{path}")["serial"] != first
    assert member.get(f"{path}/revoke").headers["location"] == f"{BASE}{path}", "it is not ours to revoke"
    assert member.send(f"{path}/revoke").status_code == 409
    for person, status in ((people.stranger, 404), (people.auditor, 403)):
        for form in ("content", "revoke"):
            assert person.get(f"{path}/{form}").status_code == status
            assert person.send(f"{path}/{form}", pems).status_code == status
    shown = words(people.auditor.get(path).text)
    for act in ("Replace", "Revoke", "New key", "Delete"):
        assert act not in shown, act
    assert people.auditor.get("/certificates/upload").status_code == 403
    assert people.auditor.send("/certificates/upload", good).status_code == 403


def test_an_issued_certificate_is_revoked_after_its_end_was_said(people: People) -> None:
    member = people.member
    path = f"/certificates/{make_certificate(acme(people), 'www', 'www.inside.internal')}"
    assert "by itself" in words(member.get(path).text)
    assert "BEGIN CERTIFICATE" in member.get(f"{path}/authority.pem").text
    revoked = member.get(f"{path}/revoked.crl")
    assert revoked.headers["content-type"] == "application/pkix-crl"
    assert people.stranger.get(f"{path}/authority.pem").status_code == 404
    assert member.get(f"{path}/content").headers["location"] == f"{BASE}{path}"
    assert "cannot be undone" in words(member.get(f"{path}/revoke").text)
    assert member.send(f"{path}/revoke").headers["location"] == f"{BASE}{path}"
    assert "no, it was revoked" in words(member.get(path).text)
    assert len(member.get(f"{path}/revoked.crl").content) > len(revoked.content)
