"""Power budgets at the console: set where they are looked at, refused with a sentence, taken away, the operator's."""

import re

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
