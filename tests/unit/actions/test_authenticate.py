"""From a key to an actor: every way a key can be wrong looks the same, and a change counts at once."""

from datetime import timedelta

import pytest

from penstock.actions.authenticate import authenticate
from penstock.actions.context import Actor, Context
from penstock.base.clock import ManualClock
from penstock.base.errors import UnauthenticatedError
from penstock.control_plane import ControlPlane
from penstock.domain.role import Role
from tests.support.infrastructure import change
from tests.support.simulated_factory import SimulatedFactory


@pytest.fixture
def context(control_plane: ControlPlane) -> Context:
    return control_plane.context


@pytest.fixture
def key(simulated: SimulatedFactory) -> str:
    return simulated.keys.demo_key


def actor(context: Context, credential: str | None) -> Actor:
    return authenticate(
        context, credential, source_address="127.0.0.1", user_agent="test", request_id="req_1"
    )


def refusal(context: Context, credential: str | None) -> str:
    with pytest.raises(UnauthenticatedError) as caught:
        actor(context, credential)
    return caught.value.sentence


def test_a_key_says_who_it_is_where_it_may_act_and_whence_it_came(
    context: Context, key: str, simulated: SimulatedFactory
) -> None:
    tenant = actor(context, key)
    assert tenant.name == "demo"
    assert {binding.role for binding in tenant.bindings} == {Role.TENANT_ADMIN}
    assert {binding.tenant_id for binding in tenant.bindings} == {tenant.tenant_id}
    assert (tenant.source_address, tenant.user_agent, tenant.request_id) == ("127.0.0.1", "test", "req_1")
    assert not tenant.via_password
    operator = actor(context, simulated.keys.operator_key)
    assert operator.tenant_id is None
    assert {binding.role for binding in operator.bindings} == {Role.OPERATOR}


def test_every_wrong_key_gets_the_same_sentence_which_does_not_repeat_it(context: Context, key: str) -> None:
    other_secret = key[:-1] + ("a" if key[-1] != "a" else "b")
    unknown = "psk_" + "a" * 10 + "_" + key.rpartition("_")[2]
    said = {
        refusal(context, one) for one in (None, "", "nonsense", key[:-1], key + "a", other_secret, unknown)
    }
    assert len(said) == 1
    assert key[:14] not in said.pop()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE api_key SET revoked_at = :now",
        "UPDATE principal SET disabled_at = :now",
        "UPDATE tenant SET state = 'deleted'",
        "UPDATE api_key SET expires_at = :now",
        "DELETE FROM api_key",
    ],
)
def test_a_key_that_was_taken_away_is_refused_at_once(context: Context, key: str, sql: str) -> None:
    actor(context, key)
    if ":now" in sql:
        change(context, sql, now=context.clock.now())
    else:
        change(context, sql)
    refusal(context, key)


def test_a_key_works_until_the_moment_it_expires(context: Context, key: str, clock: ManualClock) -> None:
    change(context, "UPDATE api_key SET expires_at = :at", at=clock.now() + timedelta(hours=1))
    clock.advance(timedelta(hours=1) - timedelta(microseconds=1))
    actor(context, key)
    clock.advance(timedelta(microseconds=1))
    refusal(context, key)
