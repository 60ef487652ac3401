"""What people do at the console, without scripts: order, release, make keys, read the bill, run the factory."""

import csv
import io
import re
from datetime import timedelta
from decimal import Decimal

import httpx
import pytest

from penstock.actions import offer as offer_actions
from penstock.base.clock import ManualClock
from penstock.console.secure import BASE
from penstock.domain.role import Role
from tests.fixtures.console import People
from tests.support.console import Person, forms, make_person, words
from tests.support.tenancy import make_project


def offer_id(people: People, name: str) -> str:
    rows = offer_actions.list_page(
        people.plane.context, people.acme.admin.actor(), name=name, kind=None, state=None, after=None, limit=1
    )
    return str(rows[0]["id"])


def ordered(person: Person, people: People, **fields: str) -> httpx.Response:
    path = f"/catalogue/{offer_id(people, 'gpu')}"
    page = person.get(path).text
    filled = forms(page)[f"{BASE}{path}"]
    return person.send(path, {**filled, **fields})


def service_path(answer: httpx.Response) -> str:
    assert answer.status_code == 303, words(answer.text)
    return answer.headers["location"].removeprefix(BASE)


def price_part(person: Person, people: People, **fields: str) -> str:
    path = f"/catalogue/{offer_id(people, 'gpu')}"
    filled = {**forms(person.get(path).text)[f"{BASE}{path}"], **fields}
    return words(person.send(f"{path}/price", filled).text)


def test_an_order_from_the_catalogue_to_running_and_back(people: People, clock: ManualClock) -> None:
    page = words(people.member.get("/catalogue").text)
    assert "GPUs" in page
    assert "for a million tokens out" in page
    answer = ordered(people.member, people, count="2", device_class="H100", name="train")
    path = service_path(answer)
    shown = words(people.member.get(path).text)
    assert "'train' is ordered" in shown
    assert "queued" in shown
    assert "'train' is ordered" not in words(people.member.get(path).text), "a notice is said once"
    people.factory.turn(4)
    shown = words(people.member.get(path).text)
    assert "running" in shown
    assert "simulated" in shown
    assert "5.00 EUR/h now" in shown
    clock.advance(timedelta(minutes=20))
    asked = words(people.member.get(f"{path}/release").text)
    assert "5.00 EUR/h less" in asked
    assert "1.67 EUR, stays on the bill" in asked
    assert "can be kept until then" in asked
    assert service_path(people.member.send(f"{path}/release", {"now": "yes"})) == path
    people.factory.turn(4)
    assert "gone; nothing is held" in words(people.member.get(path).text).lower()
    segments = words(people.member.get(f"{path}/segments").text)
    assert segments.count("20 min 00 s") == 2, "two devices, twenty minutes each"
    assert "train" in people.member.get("/services?show=over").text


def test_a_release_can_be_taken_back_for_half_a_minute(people: People, clock: ManualClock) -> None:
    path = service_path(ordered(people.member, people, count="2", device_class="H100", name="train"))
    people.factory.turn(4)
    assert service_path(people.member.send(f"{path}/release")) == path
    clock.advance(timedelta(seconds=20))
    people.plane.reservations.tick()
    people.factory.turn(2)
    page = people.member.get(path).text
    assert "Until then it runs on, holds its place and is paid for" in words(page)
    assert 'class="badge good">running' in page
    assert "released soon" in people.member.get("/services").text
    assert people.auditor.send(f"{path}/keep").status_code == 403
    assert people.stranger.send(f"{path}/keep").status_code == 404
    assert service_path(people.member.send(f"{path}/keep")) == path
    assert "is kept; nothing was stopped" in words(people.member.get(path).text)
    clock.advance(timedelta(minutes=5))
    people.plane.reservations.tick()
    people.factory.turn(2)
    assert "running" in words(people.member.get(path).text)
    people.member.send(f"{path}/release")
    clock.advance(timedelta(seconds=31))
    people.plane.reservations.tick()
    people.factory.turn(4)
    late = people.member.send(f"{path}/keep")
    assert (late.status_code, "order the same again" in late.text) == (409, True)
    assert "gone; nothing is held" in words(people.member.get(path).text).lower()
    segments = words(people.member.get(f"{path}/segments").text)
    assert segments.count("5 min 51 s") == 2, "the meter goes on until it is taken down"


def test_sending_the_order_form_twice_orders_once(people: People) -> None:
    path = f"/catalogue/{offer_id(people, 'gpu')}"
    filled = {**forms(people.member.get(path).text)[f"{BASE}{path}"], "count": "1"}
    first, again = (people.member.send(path, filled) for _ in range(2))
    assert service_path(first) == service_path(again)


def test_price_and_start_follow_the_form(people: People) -> None:
    assert "5.00 EUR per hour" in price_part(people.member, people, count="2", device_class="H100")
    part = price_part(people.member, people, count="9", device_class="H100")
    assert "22.50 EUR per hour" in part
    assert "Can never start here" in part
    assert "it starts by itself" not in part
    assert "What would start now" in part
    assert "cannot be ordered as it is" in price_part(people.member, people, count="0")
    assert "give a whole number" in price_part(people.member, people, count="two")
    assert "No device class 'H999'" in price_part(people.member, people, device_class="H999")


def test_an_alternative_is_a_link_that_fills_the_form_in(people: People) -> None:
    path = f"/catalogue/{offer_id(people, 'gpu')}"
    filled = {**forms(people.member.get(path).text)[f"{BASE}{path}"], "count": "20", "device_class": "H100"}
    part = people.member.send(f"{path}/price", filled).text
    link = re.search(rf'href="{BASE}({path}\?[^"]*count=8[^"]*)"', part)
    assert link is not None, words(part)
    page = people.member.get(link[1].replace("&amp;", "&"))
    assert forms(page.text)[f"{BASE}{path}"]["count"] == "8"
    assert "Starts now" in words(page.text)


def test_a_quota_that_stands_in_the_way_is_said_and_the_form_keeps_what_was_typed(people: People) -> None:
    people.operator.send(f"/tenants/{people.acme.id}/quotas", {"dimension": "devices:H100", "limit": "1"})
    assert "Your quota stands in the way" in price_part(people.member, people, count="2", device_class="H100")
    refused = ordered(people.member, people, count="2", device_class="H100", name="big")
    assert refused.status_code == 409
    shown = words(refused.text)
    assert "'devices:H100' has 1 of 1 left and this order needs 2" in shown
    filled = forms(refused.text)[f"{BASE}/catalogue/{offer_id(people, 'gpu')}"]
    assert (filled["count"], filled["name"]) == ("2", "big")
    assert "1 of 1" not in words(people.member.get("/quotas").text)
    assert "0 of 1" in words(people.member.get("/quotas").text)


@pytest.mark.parametrize("name", ["Big", "-x", "x-", "a b", "x" * 64])
def test_a_name_that_cannot_be_is_refused_at_its_field(people: People, name: str) -> None:
    refused = ordered(people.member, people, count="1", name=name)
    assert refused.status_code == 422
    assert 'id="w-name"' in refused.text


def test_home_says_what_runs_what_it_costs_and_what_is_left(people: People, clock: ManualClock) -> None:
    empty = words(people.member.get("/").text)
    assert "Nothing runs yet" in empty
    assert "Open the catalogue" in empty
    ordered(people.member, people, count="4", device_class="H100", name="train")
    people.factory.turn(4)
    clock.advance(timedelta(minutes=6))
    home = words(people.member.get("/").text)
    assert "10.00 EUR/h" in home
    assert "1.00 EUR" in home, "six minutes at ten euro"
    hours_left = 24 * 30 - 12 - Decimal("0.1")  # the month began twelve hours before the test's clock
    assert f"{10 * hours_left + 1:,.2f} EUR" in home


def test_keys_are_shown_once_work_and_die(people: People) -> None:
    made = people.member.send("/keys", {"name": "chat bot", "scope": "read", "days": "7"})
    text = re.search(r'id="key-text">(psk_\w+)<', made.text)
    assert text is not None
    headers = {"Authorization": f"Bearer {text[1]}"}
    assert people.member.client.get("/v1/services", headers=headers).status_code == 200
    listed = people.member.get("/keys").text
    assert text[1] not in listed
    assert "chat bot" in listed
    path = re.search(rf'chat bot<.*?href="{BASE}(/keys/key_\w+/revoke)"', listed, re.DOTALL)
    assert path is not None
    assert "refused at once" in words(people.member.get(path[1]).text)
    assert people.member.send(path[1]).status_code == 303
    assert people.member.client.get("/v1/services", headers=headers).status_code == 401
    assert people.member.send("/keys", {"name": "none", "days": "7"}).status_code == 422, (
        "a key without a scope"
    )
    assert people.member.send("/keys", {"name": "", "scope": "llm", "days": "7"}).status_code == 422


def test_the_bill_is_the_same_on_the_page_in_the_csv_and_on_the_invoice(
    people: People, clock: ManualClock
) -> None:
    ordered(people.member, people, count="3", device_class="H100", name="=train")
    ordered(people.member, people, count="3", device_class="H100", name="train")
    people.factory.turn(4)
    clock.advance(timedelta(minutes=20, microseconds=1))
    page = words(people.member.get("/usage?by=service").text)
    rows = list(csv.DictReader(io.StringIO(people.member.get("/usage.csv?by=service").text)))
    assert sum(Decimal(row["amount_eur"]) for row in rows) == Decimal("2.500000")
    assert "2.50 EUR" in page
    assert {row["simulated"] for row in rows} == {"true"}
    assert {row["service_name"] for row in rows} == {"train"}
    made = people.operator.send("/invoices", {"tenant": people.acme.id, "month": "2026-11"})
    invoice = service_path(made)
    assert "2.50 EUR" in words(people.admin.get(invoice).text)
    assert people.admin.get(f"{invoice}/csv").headers["content-type"].startswith("text/csv")
    assert people.admin.get("/usage?by=a,b").status_code == 422


def test_an_invoice_is_made_final_checked_and_not_corrected_without_reason(
    people: People, clock: ManualClock
) -> None:
    ordered(people.member, people, count="1", device_class="H100")
    people.factory.turn(4)
    clock.advance(timedelta(minutes=9))
    invoice = service_path(people.operator.send("/invoices", {"tenant": people.acme.id, "month": "2026-11"}))
    assert f"{invoice}/finalise" not in people.operator.get(invoice).text, "the month runs"
    assert people.operator.send(f"{invoice}/finalise").status_code == 409
    clock.advance(timedelta(days=31))
    for person in (people.operator, people.admin):
        person.log_in()
    asked = words(people.operator.get(f"{invoice}/finalise").text)
    assert "Nobody can change it afterwards" in asked
    assert people.admin.send(f"{invoice}/finalise").status_code == 403
    assert service_path(people.operator.send(f"{invoice}/finalise")) == invoice
    shown = words(people.admin.get(f"{invoice}/check").text)
    assert "gives the same" in shown
    assert people.operator.send(f"{invoice}/correct").status_code == 409


def test_an_operator_changes_a_price_and_the_next_dry_run_shows_it(people: People) -> None:
    ordered(people.member, people, count="1", device_class="H100", name="old")
    people.factory.turn(4)
    page = people.operator.get("/prices")
    filled = forms(page.text)[f"{BASE}/prices"]
    wrong = people.operator.send(
        "/prices", {**filled, "meter": "gpu_hours", "item": "H100", "price": "2.1234567"}
    )
    assert wrong.status_code == 422
    done = people.operator.send(
        "/prices", {**filled, "meter": "gpu_hours", "item": "H100", "price": "3,75", "note": "dearer power"}
    )
    assert done.status_code == 303, words(done.text)
    assert "dearer power" in words(people.operator.get("/prices").text).lower()
    assert "3.75 EUR per hour" in price_part(people.member, people, count="1", device_class="H100")
    assert "2.50 EUR/h" in words(people.member.get("/services").text), "what runs keeps its price"
    stale = people.operator.send("/prices", {**filled, "meter": "gpu_hours", "item": "H100", "price": "9"})
    assert stale.status_code == 409
    assert (
        people.admin.send(
            "/prices", {**filled, "meter": "gpu_hours", "item": "H100", "price": "0"}
        ).status_code
        == 403
    )


def test_an_offer_is_previewed_made_edited_and_retired(people: People) -> None:
    body = {"kind": "gpu", "name": "pair", "title": "A pair", "fixed": '{"count": 2}', "for": "all"}
    preview = people.operator.send("/offers/new", {**body, "act": "preview"})
    assert preview.status_code == 200
    assert "Device class" in words(preview.text)
    assert "A pair" not in people.operator.get("/offers").text, "a preview saves nothing"
    wrong = people.operator.send("/offers/new", {**body, "fixed": '{"count": 99999}', "act": "save"})
    assert wrong.status_code == 422
    assert people.operator.send("/offers/new", {**body, "fixed": "{", "act": "save"}).status_code == 422
    assert people.operator.send("/offers/new", {**body, "act": "save"}).status_code == 303
    assert "A pair" in words(people.member.get("/catalogue").text)
    path = re.search(rf'href="{BASE}(/offers/off_\w+)">A pair', people.operator.get("/offers").text)
    assert path is not None
    filled = forms(people.operator.get(path[1]).text)[f"{BASE}{path[1]}"]
    change = {
        **filled,
        "fixed": '{"count": 2}',
        "description": "two",
        "for": "some",
        "tenant": people.globex.id,
    }
    assert people.operator.send(path[1], {**change, "state": "active", "act": "save"}).status_code == 303
    assert "A pair" not in words(people.member.get("/catalogue").text)
    assert "A pair" in words(people.stranger.get("/catalogue").text)
    assert people.operator.send(path[1], {**change, "act": "save"}).status_code == 409, (
        "of an older generation"
    )


def test_a_tenant_is_made_with_somebody_who_can_begin(people: People) -> None:
    made = people.operator.send(
        "/tenants", {"name": "initech", "email": "bill@initech.test", "password": "a long enough password"}
    )
    assert "bill@initech.test may log in" in words(people.operator.get(service_path(made)).text)
    bill = Person(people.browser(), "bill@initech.test")
    assert bill.log_in(password="a long enough password").status_code == 303
    assert "GPUs" in words(bill.get("/catalogue").text)
    assert people.operator.send("/tenants", {"name": "initech"}).status_code == 409
    assert people.admin.send("/tenants", {"name": "mine"}).status_code == 403


def test_members_come_get_roles_and_go(people: People) -> None:
    added = people.admin.send(
        "/members/people", {"email": "New@acme.test", "password": "a long enough password", "role": "auditor"}
    )
    assert added.status_code == 303, words(added.text)
    new = Person(people.browser(), "new@acme.test")
    assert new.log_in(password="a long enough password").status_code == 303
    assert new.get("/catalogue").status_code == 200
    page = people.admin.get("/members").text
    user = re.findall(r'name">new@acme\.test.*?/members/(usr_\w+)/roles', page, re.DOTALL)[0]
    assert people.admin.send(f"/members/{user}/roles", {"role": "operator"}).status_code in (403, 422)
    assert people.admin.send(f"/members/{user}/roles", {"role": "member"}).status_code == 303
    assert ordered(new, people, count="1").status_code == 303
    assert "refused at once" in words(people.admin.get(f"/members/{user}/disable").text)
    assert people.admin.send(f"/members/{user}/disable").status_code == 303
    assert new.get("/").status_code == 303
    assert (
        people.member.send("/members/people", {"email": "x@acme.test", "role": "member"}).status_code == 403
    )
    assert people.admin.send("/projects", {"name": "spare"}).status_code == 303
    spare = re.search(
        r'name">spare<.*?(/projects/prj_\w+/delete)', people.admin.get("/members").text, re.DOTALL
    )
    assert spare is not None
    assert people.admin.send(spare[1]).status_code == 303


def test_a_node_dies_on_the_floor_and_what_ran_there_explains_itself(
    people: People, clock: ManualClock
) -> None:
    path = service_path(ordered(people.member, people, count="4", device_class="H100", name="train"))
    people.factory.turn(4)
    people.plane.inject_faults_through(people.factory.spec.name, people.factory.driver)
    linked = re.search(rf'href="{BASE}(/nodes/nod_\w+)"', people.operator.get(path).text)
    assert linked is not None
    assert "1 service has work on it now" in words(people.operator.get(f"{linked[1]}/fail").text)
    assert people.operator.send(f"{linked[1]}/fail").status_code == 303
    clock.advance(timedelta(minutes=2))
    people.factory.turn(4)
    floor = people.operator.get("/floor.json").json()
    states = {
        node[0]: floor["node_states"][node[2]]
        for rack in floor["sites"][0]["racks"]
        for node in rack["nodes"]
    }
    assert states[linked[1].rpartition("/")[2]] == "unreachable"
    assert "1 node is not ready" in words(people.operator.get("/floor").text)
    moved = words(people.member.get(path).text)
    assert "running" in moved
    nodes = set(re.findall(rf'href="{BASE}(/nodes/nod_\w+)"', people.operator.get(path).text))
    assert nodes - {linked[1]}, "it runs on the other node"
    assert people.operator.send(f"{linked[1]}/heal").status_code == 303
    device = people.operator.get(f"{linked[1]}/devices/0").headers["location"].removeprefix(BASE)
    history = words(people.operator.get(device).text)
    assert "sold, busy" in history
    assert "train of acme" in history


def test_the_floor_has_every_device_with_its_state_holder_and_load(people: People) -> None:
    ordered(people.member, people, count="3", device_class="H100", name="train")
    people.factory.turn(4)
    floor = people.operator.get("/floor.json").json()
    nodes = [node for site in floor["sites"] for rack in site["racks"] for node in rack["nodes"]]
    letters = "".join(node[4] for node in nodes)
    states = [floor["states"][ord(letter) - ord("a")] for letter in letters]
    assert sorted(states) == ["free"] * 5 + ["sold_busy"] * 3
    holders = [floor["tenants"][ord(letter) - 0x100] for node in nodes for letter in node[5]]
    assert sorted(holders) == [""] * 5 + ["acme"] * 3
    loads = [letter for node in nodes for letter in node[8]]
    assert loads.count("-") == 5
    assert all(int(letter) >= 3 for letter in loads if letter != "-")
    drawn, warm = (["".join(node[at] for node in nodes)] for at in (9, 10))
    assert "-" not in drawn[0] + warm[0], "simulated devices say what they would measure"
    assert floor["celsius"] == [20, 100]
    assert people.operator.get("/floor.json").headers["content-encoding"] == "gzip"
    assert people.admin.get("/floor.json").status_code == 403


def test_a_decision_names_the_nodes_that_lost(people: People) -> None:
    ordered(people.member, people, count="6", device_class="H100", name="first")
    path = service_path(ordered(people.member, people, count="4", device_class="H100", name="second"))
    people.factory.turn(4)
    assert "Would wait" in price_part(people.member, people, count="4", device_class="H100")
    decision = words(people.operator.get(f"/placement/{path.rpartition('/')[2]}").text)
    assert "2 of the 4 H100 it needs are free" in decision
    assert "nod_" not in decision
    assert any(name in decision for name in people.factory.nodes)
    assert "second" in words(people.operator.get("/placement").text)


def test_search_finds_what_one_may_see_and_nothing_else(people: People) -> None:
    path = service_path(ordered(people.member, people, count="1", device_class="H100", name="needle"))
    assert "needle" in words(people.member.get("/search?q=eedl").text)
    assert path in people.member.get(f"/search?q={path.rpartition('/')[2]}").text
    assert path not in people.stranger.get("/search?q=needle").text
    assert path not in people.stranger.get(f"/search?q={path.rpartition('/')[2]}").text
    part = people.operator.get("/search?q=acm", headers={"HX-Request": "true"})
    assert "<html" not in part.text
    assert f"/tenants/{people.acme.id}" in part.text
    assert "nothing you may see" in words(people.member.get("/search?q=%25").text).lower(), "no wildcards"
    assert f"{BASE}/invoices" in people.member.get("/search?q=invo").text, "pages are found too"


def test_search_keeps_inside_the_project_of_a_member_of_one(people: People) -> None:
    path = service_path(ordered(people.member, people, count="1", device_class="H100", name="needle"))
    spare = make_project(people.plane, people.acme.id, "spare")
    guest = make_person(
        people.plane,
        people.browser,
        "guest@acme.test",
        Role.MEMBER,
        tenant_id=people.acme.id,
        project_id=spare,
    )
    for word in ("needle", path.rpartition("/")[2]):
        assert path not in guest.get(f"/search?q={word}").text
    assert guest.get(path).status_code == 404
    assert "needle" not in words(guest.get("/services").text)
    assert "needle" not in words(guest.get("/").text)


def test_events_and_audit_say_who_did_what(people: People) -> None:
    ordered(people.member, people, count="1", device_class="H100", name="train")
    assert "service.ordered" in words(people.member.get("/events?kind=service.").text)
    trail = words(people.admin.get("/audit").text)
    assert "service.order" in trail
    assert "member@acme.test" in trail
    assert people.member.get("/audit").status_code == 403
    assert "train" not in words(people.stranger.get("/events").text)


def test_power_and_capacity_show_what_is_known_and_say_what_is_not(people: People) -> None:
    power = words(people.operator.get("/power").text)
    assert "ceilings, not loads" in power
    page = people.operator.get("/power").text
    feed = re.search(rf'action="{BASE}(/power/\w+)"', page)
    if feed is not None:
        assert people.operator.send(feed[1], {"kilowatts": "77"}).status_code == 303
        assert "77.0 kW" in words(people.operator.get("/power").text)
    capacity = words(people.operator.get("/capacity").text)
    assert "H100" in capacity
    assert "Conservation error: 0 us" in capacity
    money = words(people.operator.get("/money").text)
    assert "What a point is worth" in money


def test_the_look_is_chosen_and_kept(people: People) -> None:
    assert (
        people.member.send("/theme", {"theme": "dark", "next": "/services"})
        .headers["location"]
        .endswith("/services")
    )
    assert 'data-theme="dark"' in people.member.get("/").text
    people.member.send("/theme", {"theme": '"><script>', "next": "/"})
    assert 'data-theme="dark"' in people.member.get("/").text
