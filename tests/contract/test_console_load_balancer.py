"""Load balancers and certificates at the console: made, looked at, followed, deleted; what is wrong is said and leaves nothing."""

import re
from dataclasses import replace
from typing import Any

from penstock.console.secure import BASE
from tests.fixtures.console import People
from tests.support.console import words


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
