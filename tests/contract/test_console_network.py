"""Networks at the console: made with a first subnet, looked at, deleted; what is wrong is said and leaves nothing."""

import re

from penstock.console.secure import BASE
from tests.fixtures.console import People
from tests.support.console import Person, words
from tests.support.infrastructure import change


def test_a_network_is_made_shown_found_and_deleted(people: People) -> None:
    assert "No networks yet" in people.member.get("/networks").text
    body = {"name": "inside", "prefix": "10.1.0.0/24", "project": people.acme.project_id}
    made = people.member.send("/networks", body)
    path = made.headers["location"].removeprefix(BASE)
    assert re.fullmatch(r"/networks/net_\w+", path)
    shown = words(people.member.get(path).text)
    for text in ("inside", "10.1.0.0/24", "10.1.0.1", "inside.internal", "Nothing is attached"):
        assert text in shown, text
    assert path in people.member.get("/search?q=insid").text
    assert "cannot be undone" in people.member.get(f"{path}/delete").text
    assert people.auditor.get(path).status_code == 200
    assert people.auditor.send(f"{path}/delete").status_code == 403
    assert people.stranger.get(path).status_code == 404
    assert people.member.send(f"{path}/delete").headers["location"] == f"{BASE}/networks"


def test_a_peering_is_asked_for_answered_and_ended(people: People) -> None:
    def network(person: Person, name: str, prefix: str, project_id: str) -> str:
        answer = person.send("/networks", {"name": name, "prefix": prefix, "project": project_id})
        return answer.headers["location"].removeprefix(BASE)

    mine = network(people.member, "mine", "10.1.0.0/24", people.acme.project_id)
    theirs = network(people.stranger, "theirs", "10.2.0.0/24", people.globex.project_id)
    body = {"name": "link", "peer_network_id": theirs.rpartition("/")[2]}
    assert people.auditor.send(f"{mine}/peerings", body).status_code == 403
    assert people.member.send(f"{mine}/peerings", {**body, "name": "No"}).status_code == 422
    for answer, then in (("refuse", "None. Whoever knows"), ("accept", "10.1.0.0/24")):
        assert people.member.send(f"{mine}/peerings", body).headers["location"] == f"{BASE}{mine}"
        page = people.stranger.get(theirs).text
        assert "they ask" in page
        found = re.search(r"/network-peerings/pee_\w+", page)
        assert found is not None
        assert people.member.send(f"{found[0]}/{answer}").status_code == 403
        assert people.stranger.send(f"{found[0]}/{answer}").headers["location"] == f"{BASE}{theirs}"
        assert then in words(people.stranger.get(theirs).text)
    assert "10.2.0.0/24" in words(people.member.get(mine).text)
    assert "cut within seconds" in people.member.get(f"{found[0]}/delete").text
    assert people.member.send(f"{found[0]}/delete").headers["location"] == f"{BASE}{mine}"
    assert people.stranger.get(f"{found[0]}/delete").status_code == 404


def test_a_networks_page_shows_its_newest_flows(people: People) -> None:
    made = people.member.send(
        "/networks", {"name": "inside", "prefix": "10.1.0.0/24", "project": people.acme.project_id}
    )
    path = made.headers["location"].removeprefix(BASE)
    assert "kept (drops)" in words(people.member.get(path).text)
    seen = "INSERT INTO flow (tenant_id, project_id, network_id, at, verdict, rule, protocol, source, target, target_port) "
    seen += "SELECT tenant_id, project_id, id, created_at, 'drop', 'default-in', 'tcp', '10.1.0.9', '10.1.0.2', 22 FROM network"
    change(people.plane.context, seen)
    shown = words(people.member.get(path).text)
    for text in ("default-in", "10.1.0.9", "10.1.0.2:22"):
        assert text in shown


def test_what_is_wrong_is_said_and_no_empty_network_stays(people: People) -> None:
    good = {"name": "inside", "prefix": "10.1.0.0/24", "project": people.acme.project_id}
    for wrong, status in (
        ({"name": "In Side"}, 422),
        ({"prefix": "10.1.0.0/99"}, 422),
        ({"prefix": "10.1.0.1/24"}, 422),
        ({"project": people.globex.project_id}, 404),
    ):
        refused = people.member.send("/networks", {**good, **wrong})
        assert refused.status_code == status, wrong
    assert "No networks yet" in people.member.get("/networks").text
    assert people.auditor.send("/networks", good).status_code == 403
