"""Endpoints' traffic at the console: scaling, promises, limits, batches; and the shares of devices."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.console.secure import BASE
from penstock.domain.role import Role
from penstock.engine.batch import BatchEngine
from tests.fixtures.console import People
from tests.support.batches import SimulatedGateway, jsonl, request_line
from tests.support.commerce import Market
from tests.support.console import words
from tests.support.elastic import ElasticFactory
from tests.support.knowledge import TEXT_MODEL, add_endpoint
from tests.support.tenancy import Caller, make_caller


class Traffic:
    """The people, and an endpoint of acme whose gateways are what the test says."""

    def __init__(self, people: People) -> None:
        self.people = people
        self.elastic = ElasticFactory(people.factory)
        self.browser = people.member.browser
        member = speaking(people, people.acme.member)
        body = {"offer": "llm", "project": people.acme.project_id, "name": "chat", "spec": {"model": "tiny"}}
        self.service_id = str(member.post("/v1/services", **body).json()["id"])
        self.elastic.turn()

    @property
    def path(self) -> str:
        return f"/services/{self.service_id}"


def speaking(people: People, caller: Caller) -> Caller:
    """Return a caller of the API beside the pages."""
    return replace(caller, client=people.member.browser)


@pytest.fixture
def traffic(people: People) -> Traffic:
    return Traffic(people)


def test_scaling_shows_what_waits_and_why_and_takes_a_policy(traffic: Traffic) -> None:
    people, path = traffic.people, f"{traffic.path}/scaling"
    shown = words(people.member.get(path).text)
    assert "It has a fixed number of replicas" in shown
    body = {"replicas_min": "0", "replicas_max": "3", "idle_seconds": "60"}
    assert people.member.send(path, body).status_code == 303
    traffic.elastic.turn()
    traffic.elastic.say(traffic.browser, traffic.service_id, waiting=40, in_flight=2, tokens=90)
    shown = words(people.member.get(path).text)
    for text in (
        "40 requests, at 1 gateway",
        "90 tokens",
        "more requests wait than queue_target allows",
        "1 to 2",
    ):
        assert text in shown, text
    wrong = people.member.send(path, {"replicas_min": "4"})
    assert (wrong.status_code, "is above replicas_max" in words(wrong.text)) == (422, True)
    assert people.member.send(path, {"replicas_min": "many"}).status_code == 422
    assert "Change the policy" not in people.auditor.get(path).text
    assert people.auditor.send(path, body).status_code == 403


def test_a_promise_is_made_burns_and_is_taken_back(traffic: Traffic) -> None:
    people, path = traffic.people, f"{traffic.path}/objective"
    assert "It promises nothing" in words(people.member.get(path).text)
    body = {"ttft_ms": "500", "percent": "99", "availability": "99.9"}
    assert people.member.send(path, body).status_code == 303
    traffic.elastic.say(traffic.browser, traffic.service_id, counted=1_000, missed=30, late=30, failed=1)
    shown = words(people.member.get(path).text)
    for text in ("99 % of requests: first token within 500 ms", "99.9 % do not fail", "burn 3.0", "burn 1.0"):
        assert text in shown, text
    assert "burn 3.0" in words(people.operator.get("/objectives").text)
    for wrong in (
        {},
        {"ttft_ms": "0"},
        {"ttft_ms": "x"},
        {"ttft_ms": "5", "percent": "101"},
        {"availability": "-1"},
    ):
        assert people.member.send(path, {"percent": "99", **wrong}).status_code == 422, wrong
    assert people.auditor.send(path, body).status_code == 403
    assert people.member.send(f"{path}/remove").status_code == 303
    assert "It promises nothing" in words(people.member.get(path).text)


def test_what_is_no_endpoint_has_no_such_pages(people: People) -> None:
    member = speaking(people, people.acme.member)
    body = {"offer": "gpu", "project": people.acme.project_id, "spec": {"count": 1}}
    service_id = member.post("/v1/services", **body).json()["id"]
    for page in ("scaling", "objective"):
        assert people.member.get(f"/services/{service_id}/{page}").status_code == 404
    assert "/scaling" not in people.member.get(f"/services/{service_id}").text


def test_limits_are_set_by_administrators_changed_and_removed(traffic: Traffic) -> None:
    people, project = traffic.people, traffic.people.acme.project_id
    assert "Nothing is limited" in people.admin.get("/rate-limits").text
    body = {"subject": project, "requests_per_minute": "60", "microeur_per_month": "25", "priority": "low"}
    assert people.admin.send("/rate-limits", body).status_code == 303
    shown = words(people.admin.get("/rate-limits").text)
    for text in ("project main", "60", "25.00 EUR", "low"):
        assert text in shown, text
    form = people.admin.get(f"/rate-limits?subject={project}").text
    assert 'name="microeur_per_month" type="number" value="25"' in form
    endpoint = {"subject": traffic.service_id, "tokens_per_day": "1000"}
    assert people.admin.send("/rate-limits", endpoint).status_code == 303
    assert "endpoint chat" in words(people.member.get("/rate-limits").text)
    assert "Set the limits" not in people.member.get("/rate-limits").text
    for wrong, status in (
        ({"subject": project}, 422),
        ({"subject": project, "tokens_per_day": "-1"}, 422),
        ({"subject": project, "priority": "urgent"}, 422),
        ({"subject": project, "priority": "high"}, 403),
        ({"subject": people.acme.id, "tokens_per_day": "1"}, 403),
        ({"subject": people.globex.project_id, "tokens_per_day": "1"}, 404),
        ({"subject": "nobody", "tokens_per_day": "1"}, 422),
    ):
        assert people.admin.send("/rate-limits", wrong).status_code == status, wrong
    assert people.member.send("/rate-limits", body).status_code == 403
    assert (
        people.operator.send("/rate-limits", {"subject": people.acme.id, "tokens_per_day": "9"}).status_code
        == 303
    )
    assert "tenant acme" in words(people.operator.get("/rate-limits").text)
    action = people.admin.get("/rate-limits").text.split('action="')[1:]
    remove = next(one.split('"')[0] for one in action if "/remove" in one).removeprefix(BASE)
    assert people.stranger.send(remove).status_code == 404
    assert people.member.send(remove).status_code == 403
    assert people.admin.send(remove).status_code == 303


def test_a_batch_is_typed_followed_priced_and_its_answers_are_taken(people: People, tmp_path: Path) -> None:
    plane: Any = people.plane
    plane.seal_with(tmp_path / "secrets.key")
    add_endpoint(Market(plane, ()), people.acme, "writer", "http://127.0.0.1:1", TEXT_MODEL)
    gateway: Any = SimulatedGateway()
    engine = BatchEngine(
        plane.db,
        plane.clock,
        plane.wakeups,
        plane.context.vault,
        gateway_url=lambda: "http://gateway",
        client=gateway,
    )
    member, project = people.member, people.acme.project_id
    assert "No batches yet" in member.get("/batches").text
    lines = jsonl([request_line("a"), request_line("b")]).decode()
    body = {"project": project, "endpoint": "/v1/chat/completions", "lines": lines}
    made = member.send("/batches", body)
    path = made.headers["location"].removeprefix(BASE)
    assert "its file is being read" in words(member.get(path).text).lower()
    assert "2 of its" not in member.get(f"{path}/cancel").text
    while engine.tick():
        pass
    shown = words(member.get(path).text)
    for text in ("completed", "Answered 2", "20 tokens in, 10 out", "Download the answers"):
        assert text in shown, text
    assert member.send(f"{path}/cancel").status_code == 409
    link = member.get(path).text.split(f'href="{BASE}/files/')[1].split('"')[0]
    taken = member.get(f"/files/{link}")
    assert taken.headers["content-disposition"].startswith("attachment")
    assert [line.count("custom_id") for line in taken.text.splitlines()] == [1, 1]
    assert people.stranger.get(f"/files/{link}").status_code == 404
    assert people.stranger.get(path).status_code == 404
    bad = member.send("/batches", {**body, "lines": "no json"})
    broken = bad.headers["location"].removeprefix(BASE)
    while engine.tick():
        pass
    assert "this line is no JSON object" in words(member.get(broken).text)
    for wrong in ({"lines": ""}, {"endpoint": "/v1/images"}, {"lines": "", "file": "fil_" + "0" * 26}):
        assert member.send("/batches", {**body, **wrong}).status_code in (404, 422), wrong
    engine.close()


def test_files_are_sent_by_script_and_deleted(people: People) -> None:
    member, to = people.member, f"{BASE}/batches/files?project={people.acme.project_id}&name=a.jsonl"
    sent = {"X-CSRF-Token": member.csrf}
    assert member.client.post(to, content=b"{}\n", headers=sent).status_code == 204
    assert member.client.post(to, content=b" ", headers=sent).status_code == 422
    assert member.client.post(to, content=b"{}", headers={"X-CSRF-Token": "forged"}).status_code == 403
    assert member.client.post(to.replace("a.jsonl", ""), content=b"{}", headers=sent).status_code == 422
    page = member.get("/batches").text
    assert "a.jsonl" in page
    delete = page.split(f'action="{BASE}/files/')[1].split('"')[0]
    assert people.auditor.send(f"/files/{delete}").status_code == 403
    assert member.send(f"/files/{delete}").status_code == 303
    assert "a.jsonl" not in member.get("/batches").text


def test_shares_show_what_is_borrowed_of_everybody_to_the_factory_and_of_oneself_to_a_tenant(
    people: People,
) -> None:
    assert "Nothing is guaranteed and nothing runs" in people.member.get("/shares").text
    operator = speaking(people, make_caller(people.plane, None, "robot", Role.OPERATOR))
    quota = {"dimension": "devices:H100", "limit": 8, "guaranteed": 1, "tenant_id": people.acme.id}
    assert operator.put("/v1/quotas", **quota).status_code == 200
    member = speaking(people, people.acme.member)
    spec = {"count": 3, "device_class": "H100"}
    member.post("/v1/services", offer="gpu", project=people.acme.project_id, spec=spec)
    people.factory.turn(4)
    told = operator.get("/v1/policy/shares").json()
    assert told["items"] == [
        {
            "tenant_id": people.acme.id,
            "project_id": None,
            "device_class": "H100",
            "guaranteed": 1,
            "used_milli": 3_000,
            "borrowed_milli": 2_000,
            "idle_milli": 0,
        }
    ]
    assert told["classes"] == [{"device_class": "H100", "devices": 8, "unpromised": 7}]
    own = member.get("/v1/policy/shares").json()
    assert (len(own["items"]), own["classes"]) == (1, [])
    shown = words(people.operator.get("/shares").text)
    assert "H100 1 3 2" in shown
    assert "acme" not in words(people.stranger.get("/shares").text)
    body = {
        "queue": "fair-share",
        "reclaim": "yielding",
        "patience_s": "60",
        "bound_s": "300",
        "fresh_s": "60",
    }
    assert people.operator.send("/shares", {**body, "starve_s": "600"}).status_code == 303
    assert 'value="yielding" selected' in people.operator.get("/shares").text
    wrong = people.operator.send("/shares", {**body, "starve_s": "600", "patience_s": "900"})
    assert (wrong.status_code, "must not be above" in words(wrong.text)) == (422, True)
    assert people.admin.send("/shares", {**body, "starve_s": "600"}).status_code == 403
    assert "Change the policy" not in people.admin.get("/shares").text
