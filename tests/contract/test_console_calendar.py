"""Bookings and maintenance at the console: what they would do first, then the calendar, then their end."""

import re
from datetime import timedelta

from penstock.actions import offer as offer_actions
from penstock.base.clock import ManualClock
from penstock.console.secure import BASE
from penstock.store import node as node_store
from penstock.store.database import SYSTEM
from tests.fixtures.console import People
from tests.support.bookings import Calendar
from tests.support.console import Person, forms, words

NEW = "/reservations/new"


def gpu_offer(people: People) -> str:
    rows = offer_actions.list_page(
        people.plane.context,
        people.acme.admin.actor(),
        name="gpu",
        kind=None,
        state=None,
        after=None,
        limit=1,
    )
    return str(rows[0]["id"])


def booking(people: People, person: Person, **fields: str) -> dict[str, str]:
    page = person.get(f"{NEW}?offer={gpu_offer(people)}").text
    filled = forms(page)[f"{BASE}{NEW}"]
    return {**filled, "kept": "hour", "device_class": "H100", "unit": "hours", **fields}


def booked(people: People, **fields: str) -> str:
    answer = people.member.send(NEW, booking(people, people.member, **fields))
    assert answer.status_code == 303, words(answer.text)
    return answer.headers["location"].removeprefix(BASE)


def a_node(people: People) -> str:
    with people.plane.db.transaction(SYSTEM) as connection:
        return str(node_store.page(connection, simulated=True, after=None, limit=1)[0]["name"])


def hours_ahead(clock: ManualClock, hours: float) -> str:
    return f"{clock.now() + timedelta(hours=hours):%Y-%m-%dT%H:%M}"


def test_a_booking_says_room_and_price_first_and_names_the_earliest_start(
    people: People, clock: ManualClock
) -> None:
    assert "Nothing is booked" in people.member.get("/reservations").text
    start = hours_ahead(clock, 2)
    body = booking(people, people.member, count="8", start=start, length="2", name="demo")
    part = words(people.member.send(f"{NEW}/price", body).text)
    assert "There is room: 8 H100" in part
    assert "40.00 EUR in all" in part
    path = booked(people, count="8", start=start, length="2", name="demo")
    again = people.member.send(f"{NEW}/price", {**body, "name": "other"})
    assert "No room then" in words(again.text)
    link = re.search(rf'href="{BASE}({NEW}\?[^"]+)"', again.text)
    assert link is not None
    later = people.member.get(link[1].replace("&amp;", "&"))
    assert "There is room: 8 H100" in words(later.text)
    refused = people.member.send(NEW, {**body, "name": "other"})
    assert refused.status_code == 409
    assert forms(refused.text)[f"{BASE}{NEW}"]["name"] == "other", "the form keeps what was filled in"
    shown = words(people.member.get(path).text)
    for text in ("demo", "8 H100", "2 h 00 min", "Nothing yet", "it is given back"):
        assert text in shown, text
    assert 'class="cal-bar"' in people.member.get("/reservations").text
    assert path in people.operator.get("/reservations").text


def test_an_order_goes_into_it_and_cancelling_says_what_becomes_of_that(
    people: People, clock: ManualClock
) -> None:
    path = booked(people, count="4", start=hours_ahead(clock, 1), length="2", name="demo")
    link = re.search(rf'href="{BASE}(/catalogue/[^"]*reservation=[^"]*)"', people.member.get(path).text)
    assert link is not None
    wizard = people.member.get(link[1].replace("&amp;", "&"))
    action = link[1].partition("?")[0]
    body = forms(wizard.text)[f"{BASE}{action}"]
    body |= {"device_class": "H100", "reservation": path.rsplit("/", 1)[1], "name": "inside"}
    assert people.member.send(action, body).status_code == 303
    assert "inside" in people.member.get(path).text
    asked = words(people.member.get(f"{path}/cancel").text)
    assert "What was ordered into it does not start: inside" in asked
    assert "Nothing is owed" in asked
    assert people.auditor.get(f"{path}/cancel").status_code == 403
    calendar = Calendar(people.member.browser, people.factory, clock)
    calendar.move_to(timedelta(hours=1, minutes=5))
    people.member.log_in()  # the session was idle meanwhile
    asked = words(people.member.get(f"{path}/cancel").text)
    assert "What runs in it is released: inside" in asked
    assert "stays on the bill" in asked
    assert people.member.send(f"{path}/cancel").status_code == 303
    calendar.turn(4)
    assert "ended" in words(people.member.get(path).text)
    assert path in people.member.get("/reservations?show=over").text


def test_an_order_may_begin_later_and_end_by_itself(people: People, clock: ManualClock) -> None:
    path = f"/catalogue/{gpu_offer(people)}"
    body = forms(people.member.get(path).text)[f"{BASE}{path}"]
    body |= {
        "count": "2",
        "device_class": "H100",
        "start": hours_ahead(clock, 3),
        "length": "1",
        "unit": "hours",
    }
    assert "Its place is booked for then" in words(people.member.send(f"{path}/price", body).text)
    assert people.member.send(path, body).status_code == 303
    assert "2 H100" in words(people.member.get("/reservations").text)
    endless = people.member.send(f"{path}/price", {**body, "length": ""})
    assert "say after how long it ends" in words(endless.text)
    wrong = people.member.send(path, {**body, "length": "soon"})
    assert wrong.status_code == 422
    assert "give a whole number of minutes, hours or days" in words(wrong.text)


def test_what_is_wrong_with_a_booking_is_said_beside_the_form(people: People, clock: ManualClock) -> None:
    start = hours_ahead(clock, 1)
    for change, status in (
        ({"start": "soon"}, 422),
        ({"start": hours_ahead(clock, -1)}, 422),
        ({"length": "90"}, 422),  # of days: longer than a booking lasts
        ({"length": "two"}, 422),
        ({"name": "In Side"}, 422),
        ({"project": people.globex.project_id}, 404),
        ({"offer": "off_" + "0" * 26}, 404),
    ):
        body = {**booking(people, people.member, count="1", start=start, length="2", unit="days"), **change}
        assert people.member.send(NEW, body).status_code == status, change
    assert (
        people.auditor.send(NEW, booking(people, people.auditor, start=start, length="2")).status_code == 403
    )


def test_maintenance_is_planned_after_its_consequences_were_shown(people: People, clock: ManualClock) -> None:
    assert "No maintenance is planned" in people.operator.get("/maintenance").text
    clock.advance(timedelta(minutes=11))  # the password was given at the log-in
    query = f"where={a_node(people)}&start={hours_ahead(clock, 3)}&length=2&unit=hours&name=firmware"
    asked = people.operator.get(f"/maintenance/plan?{query}")
    assert asked.status_code == 303, "the password again"
    assert "/proof?next=" in asked.headers["location"]
    people.operator.prove()
    asked = people.operator.get(f"/maintenance/plan?{query}")
    shown = words(asked.text)
    for text in ("Take 1 node out of work?", "Nothing runs there now", "nothing is placed there"):
        assert text in shown, text
    action = next(one for one in forms(asked.text) if "/maintenance?" in one).removeprefix(BASE)
    made = people.operator.send(action.replace("&amp;", "&"))
    path = made.headers["location"].removeprefix(BASE)
    assert re.fullmatch(r"/maintenance/mnt_\w+", path), words(made.text)
    assert "firmware" in people.operator.get("/maintenance").text
    assert "out of work" in people.operator.get("/reservations").text
    assert "Nothing: its nodes are empty" in words(people.operator.get(path).text)
    assert people.admin.get("/maintenance").status_code == 403
    assert "may use that time again" in words(people.operator.get(f"{path}/cancel").text)
    assert people.operator.send(f"{path}/cancel").status_code == 303


def test_maintenance_names_what_it_would_move_and_what_is_in_its_way(
    people: People, clock: ManualClock
) -> None:
    path = booked(people, count="8", start=hours_ahead(clock, 3), length="2", name="demo")
    where = people.operator.get(path).text
    nodes = sorted(set(re.findall(rf'{BASE}/nodes/nod_\w+">([\w-]+)<', where)))
    query = f"where={'+'.join(nodes)}&start={hours_ahead(clock, 4)}&length=2&unit=hours"
    shown = people.operator.get(f"/maintenance/plan?{query}")
    assert "Bookings in its way" in words(shown.text)
    assert ">Plan it</button>" not in shown.text
    for wrong in ("where=nowhere", f"where={nodes[0]}&length=x", f"where={nodes[0]}&start=soon"):
        answer = people.operator.get(f"/maintenance/plan?unit=hours&length=2&{wrong}")
        assert answer.status_code in (404, 422), wrong
