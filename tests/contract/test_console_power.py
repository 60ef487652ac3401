"""Power budgets at the console: set where they are looked at, refused with a sentence, taken away, the operator's."""

import re
from datetime import timedelta

from penstock.base.clock import ManualClock
from penstock.console.secure import BASE
from tests.fixtures.console import People
from tests.support.console import forms, words

PAGE = "/power/budgets"


def test_a_budget_is_set_shown_and_taken_away(people: People) -> None:
    page = people.operator.get(f"{PAGE}?level=node").text
    assert BASE + PAGE in forms(page)
    row = re.search(
        r'name="subject" value="([^"]+)".*?name="site" value="([^"]+)".*?name="name" value="([^"]+)"', page
    )
    assert row is not None
    body = {"level": "node", "subject": row[1], "site": row[2], "name": row[3], "kilowatts": "9"}
    assert people.operator.send(PAGE, body).status_code == 303
    shown = people.operator.get(f"{PAGE}?level=node").text
    assert "9.0 kW" in shown
    for wrong in ({"kilowatts": "0"}, {"kilowatts": "x"}, {"level": "moon"}, {"subject": "nod_" + "0" * 26}):
        assert people.operator.send(PAGE, {**body, **wrong}).status_code in (404, 422), wrong
    assert people.admin.send(PAGE, body).status_code == 403
    assert people.admin.get(PAGE).status_code == 403
    remove = re.search(rf'action="{BASE}({PAGE}/[^"]+/remove)"', shown)
    assert remove is not None
    assert people.stranger.send(remove[1]).status_code in (403, 404)
    assert people.operator.send(remove[1]).status_code == 303
    assert "9.0 kW" not in people.operator.get(f"{PAGE}?level=node").text
    for level in ("site", "row", "rack", "nonsense"):
        assert people.operator.get(f"{PAGE}?level={level}").status_code == 200
    assert words(people.operator.get("/power").text).count("Budgets of racks and nodes") == 1


def test_a_node_is_put_to_sleep_and_woken_after_what_it_affects_was_shown(
    people: People, clock: ManualClock
) -> None:
    def turn() -> None:
        for _ in range(3):
            people.plane.power.tick()
            people.factory.turn(1)
            clock.advance(timedelta(seconds=3))

    def shown() -> str:
        return words(people.operator.get("/power/sleep").text)

    assert "No node may sleep now" in shown()
    assert "No node sleeps" in shown()
    turn()
    for _ in range(2):  # in steps, so that nobody is logged out
        clock.advance(timedelta(seconds=950))
        assert people.operator.get("/power/sleep").status_code == 200
    page = people.operator.get("/power/sleep").text
    (ask,) = re.findall(rf'href="{BASE}(/power/sleep/nod_\w+/sleep)"', page)
    told = words(people.operator.get(ask).text)
    assert "Nothing runs on it" in told
    assert "saves about 1." in told
    for person in (people.admin, people.member, people.auditor, people.stranger):
        assert person.get("/power/sleep").status_code in (403, 404)
        assert person.get(ask).status_code in (403, 404)
        assert person.send(ask).status_code in (403, 404)
    assert people.operator.send(ask, csrf=False).status_code == 403
    assert "No node sleeps" in shown(), "nothing happened so far"
    assert people.operator.send(ask).status_code == 303
    turn()
    assert re.search(r"r\d+t\d+ simulated \S+ off off", shown()), shown()
    other = next(iter(set(people.factory.nodes.values()) - {ask.split("/")[3]}))
    refused = people.operator.send(f"/power/sleep/{other}/sleep")
    assert (refused.status_code, "may not sleep now" in refused.text) == (409, True)
    assert people.operator.get(f"/power/sleep/{other}/sleep").headers["location"] == f"{BASE}/power/sleep"
    assert people.operator.get("/power/sleep/nod_" + "0" * 26 + "/wake").status_code == 404

    wake = ask.removesuffix("sleep") + "wake"
    assert wake in people.operator.get("/power/sleep").text
    assert "can be used in about" in words(people.operator.get(wake).text)
    assert people.admin.send(wake).status_code in (403, 404)
    assert people.operator.send(wake).status_code == 303
    turn()
    assert re.search(r"r\d+t\d+ simulated \S+ waking on", shown()), shown()
    assert words(people.operator.get("/power").text).count("Sleeping nodes") == 1
