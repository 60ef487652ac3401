"""Price books: the next version only, whole or on top of the latest, never with a gap, never changed."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError

from penstock.actions import price_book as price_book_actions
from penstock.actions.context import Actor
from penstock.actions.price_book import NewPrices
from penstock.base import limits
from penstock.base.errors import ForbiddenError, InvalidInputError, NotFoundError, StaleGenerationError
from penstock.control_plane import ControlPlane
from penstock.domain.price import PRICED, Meter, Price
from penstock.domain.role import Role
from penstock.store.database import SYSTEM
from penstock.store.schema import audit
from tests.support.tenancy import make_caller, make_tenant

WHOLE = tuple(Price(meter, "*", 1_000) for meter in PRICED)


@pytest.fixture
def operator(control_plane: ControlPlane) -> Actor:
    return make_caller(control_plane, None, "op@x.example", Role.OPERATOR, kind="user").actor()


def publish(plane: ControlPlane, actor: Actor, prices: Sequence[Price], **more: Any) -> dict[str, Any]:
    return price_book_actions.publish(plane.context, actor, NewPrices("why", prices, **more))


def amounts(book: dict[str, Any]) -> dict[tuple[str, str], int]:
    return {(price.meter, price.item): price.microeur_per_unit for price in book["prices"]}


def test_versions_count_up_and_the_latest_is_in_force(control_plane: ControlPlane, operator: Actor) -> None:
    with pytest.raises(NotFoundError):
        price_book_actions.show(control_plane.context, operator, "latest")
    first = publish(control_plane, operator, WHOLE)
    second = publish(control_plane, operator, [*WHOLE, Price(Meter.GPU_HOURS, "H100", 5)])
    assert (first["version"], second["version"]) == (1, 2)
    for which in ("latest", "2", second["id"]):
        assert price_book_actions.show(control_plane.context, operator, which) == second
    listed = price_book_actions.list_page(control_plane.context, operator, before=None, limit=10)
    assert [row["version"] for row in listed] == [2, 1]
    assert [
        row["version"]
        for row in price_book_actions.list_page(control_plane.context, operator, before=2, limit=10)
    ] == [1]


def test_changes_go_on_top_of_the_latest_version(control_plane: ControlPlane, operator: Actor) -> None:
    publish(
        control_plane,
        operator,
        [*WHOLE, Price(Meter.GPU_HOURS, "H100", 5), Price(Meter.GPU_HOURS, "A100", 3)],
    )
    book = publish(
        control_plane,
        operator,
        [Price(Meter.GPU_HOURS, "H100", 6), Price(Meter.GPU_HOURS, "B200", 9)],
        removed=[(Meter.GPU_HOURS, "A100")],
        on_top_of=1,
    )
    assert amounts(book) == {
        ("gpu_hours", "*"): 1_000,
        ("gpu_hours", "H100"): 6,
        ("gpu_hours", "B200"): 9,
        ("input_tokens", "*"): 1_000,
        ("output_tokens", "*"): 1_000,
    }


def test_changes_on_top_of_an_older_version_are_refused(control_plane: ControlPlane, operator: Actor) -> None:
    with pytest.raises(StaleGenerationError):
        publish(control_plane, operator, WHOLE, on_top_of=1)
    publish(control_plane, operator, WHOLE)
    publish(control_plane, operator, WHOLE)
    with pytest.raises(StaleGenerationError) as refusal:
        publish(control_plane, operator, WHOLE, on_top_of=1)
    assert refusal.value.data == {"latest": 2}


def test_of_many_changes_at_once_on_one_version_one_wins(
    control_plane: ControlPlane, operator: Actor
) -> None:
    publish(control_plane, operator, WHOLE)

    def change(number: int) -> bool:
        try:
            publish(control_plane, operator, [Price(Meter.GPU_HOURS, f"C{number}", number)], on_top_of=1)
        except StaleGenerationError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(change, range(6))) == 1


@pytest.mark.parametrize("meter", PRICED)
def test_a_book_that_leaves_anything_without_a_price_is_refused(
    control_plane: ControlPlane, operator: Actor, meter: Meter
) -> None:
    with pytest.raises(InvalidInputError, match=f"price for {meter}"):
        publish(control_plane, operator, [price for price in WHOLE if price.meter is not meter])
    publish(control_plane, operator, WHOLE)
    with pytest.raises(InvalidInputError, match="sold without a price"):
        publish(control_plane, operator, (), removed=[(meter, "*")], on_top_of=1)


def test_what_makes_no_sense_is_refused_with_its_field(
    control_plane: ControlPlane, operator: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(control_plane, operator, WHOLE)
    twice = [*WHOLE, Price(Meter.GPU_HOURS, "*", 2)]
    for prices, more, field in (
        (twice, {}, "prices"),
        (WHOLE, {"removed": [(Meter.GPU_HOURS, "*")]}, "removed"),
        ((), {"removed": [(Meter.GPU_HOURS, "H100")], "on_top_of": 1}, "removed"),
    ):
        with pytest.raises(InvalidInputError) as refusal:
            publish(control_plane, operator, prices, **more)
        assert refusal.value.field == field
    monkeypatch.setattr(limits, "PRICES_PER_BOOK_MAX", 3)
    with pytest.raises(InvalidInputError, match="at most 3"):
        publish(control_plane, operator, [Price(Meter.GPU_HOURS, "H100", 1)], on_top_of=1)


def test_tenants_read_prices_and_only_operators_publish(control_plane: ControlPlane, operator: Actor) -> None:
    book = publish(control_plane, operator, WHOLE)
    acme = make_tenant(control_plane, None, "acme")
    for caller in (acme.admin, acme.member, acme.auditor):
        assert price_book_actions.show(control_plane.context, caller.actor(), "latest") == book
        with pytest.raises(ForbiddenError):
            publish(control_plane, caller.actor(), WHOLE)
    confined = make_caller(
        control_plane, None, "one", Role.MEMBER, tenant_id=acme.id, project_id=acme.project_id
    ).actor()
    assert price_book_actions.show(control_plane.context, confined, "1") == book
    with control_plane.db.transaction(SYSTEM) as connection:
        outcomes = connection.execute(sa.select(audit.c.outcome).order_by(audit.c.id)).scalars()
        assert list(outcomes) == ["done", *["refused:forbidden"] * 3]


@pytest.mark.parametrize(
    "statement", ["UPDATE price SET microeur_per_unit = 0", "DELETE FROM price", "DELETE FROM price_book"]
)
def test_the_database_lets_nobody_change_a_version(
    control_plane: ControlPlane, operator: Actor, statement: str
) -> None:
    publish(control_plane, operator, WHOLE)
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        control_plane.db.transaction(SYSTEM) as connection,
    ):
        connection.execute(sa.text(statement))
