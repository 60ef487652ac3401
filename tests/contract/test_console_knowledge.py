"""Knowledge bases at the console: made, filled, asked, deleted with proof; what is wrong is said; strangers see nothing."""

import re
from dataclasses import dataclass

import httpx
import pytest

from penstock.console.secure import BASE
from tests.fixtures.console import People
from tests.support.commerce import make_market
from tests.support.console import Person, words
from tests.support.infrastructure import change, query
from tests.support.knowledge import TEXT_MODEL, add_endpoint, add_model, work


@dataclass
class Desk:
    """People, and a running embedding service of acme."""

    people: People
    base_id: str

    def upload(self, person: Person, name: str, data: bytes, csrf: str | None = None) -> httpx.Response:
        """Send a file as the page's script does."""
        headers = {"X-CSRF-Token": person.csrf if csrf is None else csrf, "Content-Type": "text/plain"}
        path = f"{BASE}/knowledge/{self.base_id}/documents?name={name}"
        return person.client.post(path, content=data, headers=headers)


@pytest.fixture
def desk(people: People, embedding_url: str) -> Desk:
    market = make_market(people.plane)
    add_endpoint(market, people.acme, "embedding", embedding_url)
    project = people.acme.project_id
    made = people.member.send(
        "/knowledge", {"name": "handbook", "service": f"{project} embedding", "language": "english"}
    )
    assert made.status_code == 303, made.text
    return Desk(people, made.headers["location"].rpartition("/")[2])


def test_without_a_service_that_makes_vectors_the_page_says_what_to_order(people: People) -> None:
    page = people.member.get("/knowledge")
    assert "Nothing makes vectors yet" in page.text
    refused = people.member.send("/knowledge", {"name": "x", "service": ""})
    assert refused.status_code == 422
    assert "choose the service" in refused.text.lower()


def test_documents_are_taken_indexed_found_and_cited(desk: Desk) -> None:
    member = desk.people.member
    assert desk.upload(member, "bees.txt", b"Bees make honey in hives.").status_code == 204
    text = {"name": "wasps", "text": "Wasps make paper nests."}
    assert member.send(f"/knowledge/{desk.base_id}/text", text).status_code == 303
    assert "pending" in words(member.get(f"/knowledge/{desk.base_id}").text)
    work(desk.people.plane)
    page = words(member.get(f"/knowledge/{desk.base_id}").text)
    assert "bees.txt" in page
    assert page.count(" ready ") >= 2
    found = member.send(f"/knowledge/{desk.base_id}/ask", {"question": "Who makes honey?", "service": ""})
    assert "Bees make honey in hives." in found.text
    part = member.client.post(
        f"{BASE}/knowledge/{desk.base_id}/ask",
        data={"question": "zebra lasagne", "service": "", "csrf": member.csrf},
        headers={"HX-Request": "true"},
    )
    assert "Nothing found" in part.text
    assert "<html" not in part.text
    document = re.search(r"/documents/(doc_\w+)", found.text)
    assert document is not None
    shown = words(member.get(f"/documents/{document[1]}").text)
    assert "found by searches" in shown
    assert member.send(f"/documents/{document[1]}/reindex").status_code == 303
    assert "Ctrl" in member.get("/search?q=bees").text
    assert document[1] in member.get("/search?q=bees").text


def test_a_deletion_says_what_goes_and_ends_with_a_signed_proof(desk: Desk) -> None:
    member = desk.people.member
    desk.upload(member, "bees.txt", b"Bees make honey in hives.")
    work(desk.people.plane)
    asked = words(member.get(f"/knowledge/{desk.base_id}/delete").text)
    assert "1 document with all versions" in asked
    assert "cannot be undone" in asked
    gone = member.send(f"/knowledge/{desk.base_id}/delete")
    proof = gone.headers["location"].removeprefix(BASE)
    assert proof.startswith("/proofs/dpr_")
    assert "being removed" in words(member.get(proof).text)
    work(desk.people.plane)
    signed = words(member.get(proof).text)
    assert "Nothing is left of it" in signed
    assert "Ed25519" in signed
    assert desk.base_id in member.get("/proofs").text
    assert member.get(f"/knowledge/{desk.base_id}").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("urls", {"urls": ""}, "addresses, one a line"),
        ("urls", {"urls": "http://example.org/a"}, "https"),
        ("urls", {"urls": "https://127.0.0.1/a"}, "no public address"),
        ("text", {"name": "", "text": "x"}, "1 to 254 characters"),
        ("text", {"name": "a", "text": ""}, "give a text"),
        ("ask", {"question": "", "service": ""}, "ask something"),
    ],
)
def test_what_is_wrong_is_said(desk: Desk, path: str, body: dict[str, str], sentence: str) -> None:
    refused = desk.people.member.send(f"/knowledge/{desk.base_id}/{path}", body)
    assert refused.status_code == 422
    assert sentence in words(refused.text).lower()


def test_a_model_is_asked_only_when_something_was_found(desk: Desk) -> None:
    body = {"question": "x", "service": "nobody"}
    answer = desk.people.member.send(f"/knowledge/{desk.base_id}/ask", body)
    assert "No answer found" in answer.text


def test_an_upload_needs_its_token_and_a_kind_that_can_be_read(desk: Desk) -> None:
    member = desk.people.member
    assert desk.upload(member, "a.txt", b"x", csrf="forged").status_code == 403
    refused = desk.upload(member, "a.exe", b"\x00\x01MZ\x90")
    assert refused.status_code == 422
    assert refused.headers["content-type"].startswith("text/plain")
    assert desk.upload(member, "", b"x").status_code == 422
    guest = Person(desk.people.browser())
    answer = guest.client.post(f"{BASE}/knowledge/{desk.base_id}/documents?name=a", content=b"x")
    assert "login" in str(answer.url)


def test_strangers_and_auditors(desk: Desk) -> None:
    desk.upload(desk.people.member, "bees.txt", b"Bees make honey.")
    assert desk.people.stranger.get(f"/knowledge/{desk.base_id}").status_code == 404
    assert desk.upload(desk.people.stranger, "a.txt", b"x").status_code == 404
    assert "handbook" not in desk.people.stranger.get("/knowledge").text
    assert desk.people.auditor.get(f"/knowledge/{desk.base_id}").status_code == 200
    assert desk.upload(desk.people.auditor, "a.txt", b"x").status_code == 403
    assert desk.people.auditor.send(f"/knowledge/{desk.base_id}/delete").status_code == 403


def test_a_rag_service_leads_to_its_documents_and_may_be_talked_to(desk: Desk) -> None:
    people = desk.people
    add_model(people.plane, TEXT_MODEL)
    (offer,) = query(people.plane.context, "SELECT id FROM offer WHERE name = 'rag'")
    form = {
        "project": people.acme.project_id,
        "name": "guide",
        "model": "writer",
        "embedding_service": "embedding",
    }
    ordered = people.member.send(f"/catalogue/{offer['id']}", form)
    assert ordered.status_code == 303, words(ordered.text)
    path = ordered.headers["location"].removeprefix(BASE)
    (base,) = query(people.plane.context, "SELECT id FROM knowledge_base WHERE name = 'guide'")
    assert f"{BASE}/knowledge/{base['id']}" in people.member.get(path).text
    assert "guide" not in people.member.get("/playground").text
    change(people.plane.context, "UPDATE service SET state = 'running'")
    page = people.member.get(path).text
    assert f"{BASE}/playground?service={path.rpartition('/')[2]}" in page
    assert "model <code>guide</code>" in page
    assert "guide" in people.member.get(f"/playground?service={path.rpartition('/')[2]}").text
