"""Roles, places and key scopes: what they give together, and who may give them away."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.role import GRANTS, OPERATOR_ONLY, SCOPES, Binding, Role, granted, may_grant, misplaced

OPERATOR = Binding(Role.OPERATOR, None, None)
ADMIN = Binding(Role.TENANT_ADMIN, "a", None)
MEMBER = Binding(Role.MEMBER, "a", None)
CONFINED = Binding(Role.MEMBER, "a", "p")
VIEWER = Binding(Role.VIEWER, "a", None)
AUDITOR = Binding(Role.AUDITOR, "a", None)


def may(binding: Binding, permission: str, tenant: str | None = "a", project: str | None = None) -> bool:
    return granted(permission, [binding], ["*"], tenant, project)


@pytest.mark.parametrize(
    ("binding", "permission", "tenant", "project", "expected"),
    [
        (OPERATOR, "node:retire", None, None, True),
        (OPERATOR, "service:order", "a", "p", True),
        (ADMIN, "service:order", "a", "p", True),
        (ADMIN, "service:order", "b", "p", False),
        (ADMIN, "tenant:create", None, None, False),
        (ADMIN, "tenant:suspend", "a", None, False),
        (ADMIN, "quota:write", "a", None, True),
        (ADMIN, "quota:set_tenant", "a", None, False),
        (ADMIN, "node:read", "a", None, False),
        (MEMBER, "service:order", "a", "p", True),
        (MEMBER, "project:create", "a", None, False),
        (MEMBER, "audit:read", "a", None, False),
        (CONFINED, "service:order", "a", "p", True),
        (CONFINED, "service:order", "a", "q", False),
        (CONFINED, "service:order", "a", None, False),
        (MEMBER, "vm_console:write", "a", "p", True),
        (VIEWER, "service:read", "a", "p", True),
        (VIEWER, "vm_console:open", "a", "p", True),
        (VIEWER, "vm_console:write", "a", "p", False),
        (VIEWER, "api_key:own", "a", None, False),
        (VIEWER, "llm:call", "a", "p", False),
        (VIEWER, "knowledge_base:search", "a", "p", False),
        (VIEWER, "audit:read", "a", None, False),
        (VIEWER, "node:read", "a", None, False),
        (AUDITOR, "vm_console:open", "a", "p", False),
        (AUDITOR, "audit:read", "a", None, True),
        (AUDITOR, "service:order", "a", "p", False),
        (AUDITOR, "device:read", "a", None, False),
        (Binding(Role.AUDITOR, None, None), "device:read", None, None, True),
    ],
)
def test_a_role_gives_what_it_says_where_it_says(
    binding: Binding, permission: str, tenant: str | None, project: str | None, *, expected: bool
) -> None:
    assert may(binding, permission, tenant, project) == expected


def test_who_only_looks_changes_and_types_nothing() -> None:
    for role in (Role.VIEWER, Role.AUDITOR):
        assert {one for one in GRANTS[role] if not one.endswith(":read")} <= {"vm_console:open"}
    nouns = {one.partition(":")[0] for one in GRANTS[Role.MEMBER]} - {"llm", "vm_console"}
    assert all(may(VIEWER, f"{noun}:read", "a", "p") for noun in nouns), "it sees what a member sees"


def test_a_scope_narrows_and_never_widens() -> None:
    assert granted("service:order", [MEMBER], ["services"], "a", "p")
    assert not granted("service:order", [MEMBER], ["read"], "a", "p")
    assert not granted("service:order", [AUDITOR], ["services"], "a", "p")
    assert not granted("service:order", [MEMBER], [], "a", "p")
    assert not granted("service:order", [MEMBER], ["no such scope"], "a", "p")
    assert not granted("service:order", [], ["*"], "a", "p")


bindings = st.builds(
    Binding, st.sampled_from(Role), st.sampled_from([None, "a", "b"]), st.sampled_from([None, "p", "q"])
)
permissions = st.sampled_from(
    sorted(
        {p.replace("*", "read") for grants in GRANTS.values() for p in grants}
        | {"node:retire", "service:order"}
    )
)


@given(st.lists(bindings, max_size=4), st.sets(st.sampled_from(sorted(SCOPES))), permissions)
def test_fewer_bindings_or_scopes_never_give_more(
    held: list[Binding], scopes: set[str], permission: str
) -> None:
    for tenant, project in itertools.product([None, "a", "b"], [None, "p"]):
        if granted(permission, held, scopes, tenant, project):
            assert granted(permission, held, ["*"], tenant, project)
            assert granted(permission, [*held, OPERATOR], scopes, tenant, project)
            assert any(granted(permission, [one], scopes, tenant, project) for one in held)


@given(st.lists(bindings.filter(lambda b: b.tenant_id == "a"), max_size=4), permissions)
def test_a_tenants_bindings_never_reach_another_tenant_or_the_hardware(
    held: list[Binding], permission: str
) -> None:
    assert not granted(permission, held, ["*"], "b", None)
    assert not granted(permission, held, ["*"], None, None)
    for noun in OPERATOR_ONLY:
        assert not granted(f"{noun}:read", held, ["*"], "a", None)


@pytest.mark.parametrize(
    ("holder", "wanted", "expected"),
    [
        (OPERATOR, OPERATOR, True),
        (OPERATOR, ADMIN, True),
        (ADMIN, ADMIN, True),
        (ADMIN, CONFINED, True),
        (ADMIN, OPERATOR, False),
        (ADMIN, Binding(Role.MEMBER, "b", None), False),
        (ADMIN, Binding(Role.AUDITOR, None, None), False),
        (MEMBER, MEMBER, False),
        (AUDITOR, AUDITOR, False),
        (Binding(Role.OPERATOR, "a", None), Binding(Role.MEMBER, None, None), False),
    ],
)
def test_nobody_gives_more_than_he_has(holder: Binding, wanted: Binding, *, expected: bool) -> None:
    assert may_grant([holder], wanted) == expected


def test_bindings_that_make_no_sense_are_named() -> None:
    for binding in (OPERATOR, ADMIN, MEMBER, CONFINED, AUDITOR, Binding(Role.AUDITOR, None, None)):
        assert misplaced(binding) is None
    for binding in (
        Binding(Role.OPERATOR, "a", None),
        Binding(Role.TENANT_ADMIN, None, None),
        Binding(Role.TENANT_ADMIN, "a", "p"),
        Binding(Role.MEMBER, None, None),
        Binding(Role.VIEWER, None, None),
        Binding(Role.AUDITOR, None, "p"),
    ):
        assert misplaced(binding), binding
