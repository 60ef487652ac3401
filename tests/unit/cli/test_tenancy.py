"""The tenancy commands against a real API: from an empty factory to a limited, audited tenant."""

import json
import threading
from typing import Any

import pytest

from tests.support.command_line import CommandLine
from tests.support.tenancy import Caller, Tenant


@pytest.fixture
def penstock(served: str, operator: Caller) -> CommandLine:
    """The operator's command line."""
    return CommandLine(served, operator.key)


def test_a_tenant_is_set_up_limited_and_taken_down(penstock: CommandLine, served: str) -> None:
    tenant = penstock.json("tenant", "create", "acme", "-d", "rockets")
    project = penstock.json("project", "create", "research", "--tenant", "acme")
    account = penstock.json("service-account", "create", "ci", "--tenant", "acme")
    penstock.json("role-binding", "create", account["id"], "tenant_admin")
    key = penstock.json("key", "create", "ci-key", "--for", account["id"], "--days", "1")
    admin = CommandLine(served, key["api_key"])
    assert admin.json("whoami")["tenant"]["name"] == "acme"
    assert "acme" in admin("whoami").stdout

    penstock.json("quota", "set", "devices", "8", "--tenant", "acme")
    penstock.json("quota", "set", "device_memory_bytes", str(3 << 30), "--tenant", "acme")
    assert admin.json("quota", "set", "devices", "3", "--project", "research")["left"] == 3
    refused = admin("quota", "set", "devices", "9", "--project", "research")
    assert refused.exit_code == 3
    assert "8 are left to give" in refused.stderr
    table = admin("quota", "list").stdout
    assert "3.0 GiB" in table
    quotas = admin.json("quota", "list")["items"]
    assert sorted(q["limit"] for q in quotas) == [3, 8, 3 << 30]
    assert penstock("quota", "delete", quotas[0]["id"], "--yes").exit_code == 0

    assert penstock("tenant", "delete", "acme", "--yes").exit_code == 3
    assert admin("project", "delete", "research", "--yes").exit_code == 0
    assert admin("project", "show", project["id"]).exit_code == 3
    assert penstock("tenant", "suspend", "acme", "--yes").exit_code == 0
    assert admin("whoami").exit_code == 3
    assert penstock("tenant", "activate", "acme").exit_code == 0
    assert penstock.json("tenant", "show", "acme")["id"] == tenant["id"]
    assert penstock("tenant", "delete", "acme", "--yes").exit_code == 0
    assert penstock.json("tenant", "list")["items"] == []


def test_people_and_their_roles(penstock: CommandLine) -> None:
    penstock.json("tenant", "create", "acme")
    user = penstock.json("user", "create", "ada@acme.test", "--tenant", "acme")
    assert (
        penstock(
            "user", "set-password", "ada@acme.test", "--password-stdin", given="long enough it is\n"
        ).exit_code
        == 0
    )
    binding = penstock.json("role-binding", "create", "ada@acme.test", "member")
    assert penstock.json("role-binding", "list", "--of", "ada@acme.test")["items"] == [binding]
    assert penstock("role-binding", "delete", binding["id"], "--yes").exit_code == 0
    assert penstock.json("user", "disable", "ada@acme.test", "--yes")["disabled_at"] is not None
    assert penstock.json("user", "enable", "ada@acme.test")["disabled_at"] is None
    assert penstock.json("user", "show", user["id"])["email"] == "ada@acme.test"
    assert [u["email"] for u in penstock.json("user", "list", "--tenant", "acme")["items"]] == [
        "ada@acme.test"
    ]
    weak = penstock("user", "set-password", "ada@acme.test", "--password-stdin", given="short\n")
    assert "12 to 256 characters" in weak.stderr
    account = penstock.json("service-account", "create", "ops")
    assert penstock.json("service-account", "disable", "ops", "--yes")["disabled_at"] is not None
    assert penstock.json("service-account", "enable", "ops")["id"] == account["id"]
    assert [a["name"] for a in penstock.json("service-account", "list")["items"]] == ["ops"]
    assert "ops" in penstock("service-account", "show", "ops").stdout


def test_a_key_is_shown_once_with_a_warning(penstock: CommandLine) -> None:
    made = penstock("key", "create", "laptop", "--scope", "read", "--tokens-per-minute", "100")
    assert "psk_" in made.stdout
    assert "cannot be shown again" in made.stderr
    (key,) = [k for k in penstock.json("key", "list")["items"] if k["name"] == "laptop"]
    assert "psk_" not in penstock("key", "show", key["id"]).stdout
    assert penstock.json("key", "revoke", key["id"], "--yes")["revoked_at"] is not None
    unasked = penstock("key", "revoke", key["id"])
    assert unasked.exit_code == 2
    assert "--yes" in unasked.stderr


def test_lists_are_cut_at_the_limit_and_say_so(penstock: CommandLine) -> None:
    for name in ("a", "b", "c"):
        penstock.json("tenant", "create", name)
    cut = penstock("tenant", "list", "--limit", "2")
    assert len(cut.stdout.splitlines()) == 3
    assert "there are more" in cut.stderr
    assert penstock.json("tenant", "list", "--limit", "2")["next"] is not None
    empty = penstock("quota", "list")
    assert (empty.stdout, empty.stderr) == ("", "no limits are set\n")


def test_the_audit_trail_is_listed_newest_first(penstock: CommandLine) -> None:
    for name in ("a", "b", "c"):
        penstock.json("tenant", "create", name)
    rows = penstock.json("audit", "list", "--limit", "2")
    assert [row["detail"]["name"] for row in rows["items"]] == ["c", "b"]
    assert rows["next"] is not None
    table = penstock("audit", "list", "--utc").stdout
    assert "tenant.create" in table
    assert "UTC" in table


def test_events_are_listed_and_followed_live(penstock: CommandLine, acme: Tenant, served: str) -> None:
    acme.admin.post("/v1/projects", name="first")
    listed = penstock.json("event", "list", "--kind", "project.")["items"]
    assert [e["kind"] for e in listed] == ["project.created"]

    tenant = CommandLine(served, acme.member.key)
    got: list[Any] = []

    def follow() -> None:
        watched = tenant("event", "watch", "--after", "0", "--limit", "2", "--output", "json")
        got.extend(json.loads(line) for line in watched.stdout.splitlines())

    thread = threading.Thread(target=follow)
    thread.start()
    acme.admin.post("/v1/projects", name="second")
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert [e["data"]["name"] for e in got] == ["first", "second"]


def test_shares_and_policies(penstock: CommandLine) -> None:
    penstock.json("tenant", "create", "acme")
    refused = penstock("quota", "set", "services", "9", "--guaranteed", "3", "--tenant", "acme")
    assert refused.exit_code != 0
    assert "guarantee devices or devices:CLASS" in refused.stderr
    assert penstock.json("policy", "show")["reclaim"] == "borrowed"
    changed = penstock.json("policy", "set", "--reclaim", "never", "--bound-s", "300")
    assert (changed["reclaim"], changed["bound_s"], changed["patience_s"]) == ("never", 300, 120)
    assert "lottery" not in penstock("policy", "set", "--queue", "lottery").stdout
    assert penstock("policy", "set").exit_code == 2
    assert penstock.json("policy", "show") == changed
    assert penstock.json("policy", "shares") == {"items": [], "classes": []}
    assert penstock("policy", "shares").exit_code == 0
