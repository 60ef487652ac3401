"""Rate limits at the console: whoever sees quotas sees how fast calls may come, of his own tenant alone."""

from penstock.actions import rate_limit as rate_limit_actions
from tests.fixtures.console import People
from tests.support.console import words

HEADING = "<h2>Rate limits</h2>"  # the menu has an entry of that name, too


def test_rate_limits_stand_beside_the_quotas_of_their_own_tenant(people: People) -> None:
    assert HEADING not in people.member.get("/quotas").text
    limits = {"requests_per_minute": 60, "tokens_per_day": 5_000, "microeur_per_month": 2_500_000}
    rate_limit_actions.put(people.plane.context, people.acme.admin.actor(), people.acme.project_id, limits)
    assert HEADING in people.member.get("/quotas").text
    page = words(people.member.get("/quotas").text)
    for text in ("Rate limits", " 60 ", "5,000", "2.50 EUR"):
        assert text in page, text
    assert HEADING not in people.stranger.get("/quotas").text
