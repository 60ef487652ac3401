"""Every page of the console, walked as every role: nothing breaks, nothing foreign shows, nothing is heavy."""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route, WebSocketRoute

from penstock.actions import batch as batch_actions
from penstock.actions import file as file_actions
from penstock.actions import invoice as invoice_actions
from penstock.actions import join_token as join_token_actions
from penstock.actions import maintenance as maintenance_actions
from penstock.actions import offer as offer_actions
from penstock.actions import quota as quota_actions
from penstock.actions import rate_limit as rate_limit_actions
from penstock.actions import reservation as reservation_actions
from penstock.actions.context import Actor
from penstock.actions.maintenance import Window
from penstock.actions.reservation import Asked
from penstock.actions.service import Order, order
from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.console.app import create_console
from penstock.console.menu import FACTORY, TENANT
from penstock.console.secure import BASE
from penstock.control_plane import ControlPlane
from penstock.domain.invoice import period_of
from penstock.domain.role import Role
from penstock.store import device as device_store
from penstock.store import identity as identity_store
from penstock.store import owned
from penstock.store import power_feed as power_feed_store
from penstock.store import vm as vm_store
from penstock.store.database import SYSTEM
from penstock.store.schema import vm_snapshot, volume_snapshot
from tests.fixtures.console import People
from tests.support.batches import CHAT, jsonl, request_line
from tests.support.commerce import Market
from tests.support.console import GATEWAY, Person, words
from tests.support.knowledge import add_endpoint, make_base, upload
from tests.support.machine_objects import make_ssh_key, make_vm, make_volume
from tests.support.network_objects import make_parts, make_peering
from tests.support.networks import make_balancer, make_certificate, make_subnet
from tests.support.tenancy import make_caller

PAGE_BYTES_MAX = 300_000
NOBODY = "0" * 26
# Pages that are no HTML, and those that stream.
_NO_PAGES = {
    "/static/{digest}/{name:path}",
    "/live",
    # They lead to a provider and back; tests/flows/test_sign_in.py goes there.
    "/oidc/{provider}",
    "/oidc/{provider}/callback",
}
# Whose the object behind a parameter is: a tenant's own, or the factory's.
OF_TENANT = {
    "service_id",
    "key_id",
    "invoice_id",
    "project_id",
    "quota_id",
    "principal_id",
    "binding_id",
    "identity_id",
    "base_id",
    "document_id",
    "proof_id",
    "network_id",
    "peering_id",
    "subnet_id",
    "port_id",
    "security_group_id",
    "rule_id",
    "network_route_id",
    "dns_record_id",
    "address_id",
    "record_id",
    "load_balancer_id",
    "certificate_id",
    "partition_id",
    "reservation_id",
    "vm_id",
    "snapshot_id",
    "image_id",
    "volume_id",
    "volume_snapshot_id",
    "ssh_key_id",
    "batch_id",
    "file_id",
    "rate_limit_id",
}
OF_FACTORY = {
    "pool_id",
    "budget_id",
    "window_id",
    "node_id",
    "device_id",
    "tenant_id",
    "agent_id",
    "token_id",
    "feed_id",
    "position",
}
SHARED = {"offer_id", "provider"}


def routes(plane: ControlPlane, method: str) -> Iterator[Route]:
    """Yield the routes of the console that take a method."""
    for route in create_console(plane, lambda: GATEWAY).routes:
        if isinstance(route, WebSocketRoute):
            continue  # tests/contract/test_console_session.py opens the one there is, as everybody
        assert isinstance(route, Route)
        if method in (route.methods or ()) and route.path not in _NO_PAGES:
            yield route


@pytest.fixture
def objects(people: People) -> dict[str, str]:
    """Acme's service, key, invoice and so on, and the factory's node and device, by parameter."""
    plane, acme = people.plane, people.acme
    actor = acme.admin.actor()
    context = plane.context
    row, _ = order(context, actor, Order("gpu", acme.project_id, "train", {"count": 2}))
    people.factory.turn(4)
    boss_actor = make_caller(plane, None, "robot", Role.OPERATOR).actor()
    quota = quota_actions.put(
        context, boss_actor, tenant_id=acme.id, project_id=None, dimension="services", limit=5
    )
    made = invoice_actions.draft(context, boss_actor, acme.id, period_of(plane.clock.now()))
    offers = offer_actions.list_page(context, actor, name="gpu", kind=None, state=None, after=None, limit=1)
    identity_id = context.new_id("identity")
    with plane.db.transaction(SYSTEM) as connection:
        identity_store.insert(
            connection,
            identity_id=identity_id,
            tenant_id=acme.id,
            principal_id=acme.member.principal_id,
            issuer="https://id.test",
            subject="somebody",
            managed=False,
            at=plane.clock.now(),
        )
        device = device_store.page(connection, after=None, limit=1)[0]
        feeds = power_feed_store.page(connection, site_id=None, after=None, limit=1)
    return {
        "service_id": row["id"],
        "key_id": acme.member.key_id,
        "invoice_id": made.invoice_id,
        "project_id": acme.project_id,
        "quota_id": quota["id"],
        "principal_id": acme.member.principal_id,
        "binding_id": f"rbd_{NOBODY}",
        "node_id": device["node_id"],
        "device_id": device["id"],
        "position": "0",
        "tenant_id": acme.id,
        "agent_id": people.factory.agent_id,
        "token_id": f"jtk_{NOBODY}",
        "budget_id": f"pbg_{NOBODY}",
        "feed_id": feeds[0]["id"] if feeds else f"pfd_{NOBODY}",
        "offer_id": offers[0]["id"],
        "provider": "corp",
        "identity_id": identity_id,
        **traffic(people),  # first: it changes the key that what follows is sealed with
        **knowledge(people),
        **calendar(people, device["node_id"], boss_actor),
        **machine(people),
    }


def traffic(people: People) -> dict[str, str]:
    """Send a file, make a batch of it, and limit a project."""
    context, acme = people.plane.context, people.acme
    plane: Any = people.plane
    plane.seal_with(Path(tempfile.mkdtemp(prefix="penstock-secrets-")) / "secrets.key")
    actor = acme.member.actor()
    data = jsonl([request_line("train-1")])
    file = file_actions.upload(
        context, actor, project=acme.project_id, name="train.jsonl", purpose="batch", data=data
    )
    batch = batch_actions.create(
        context, actor, input_file_id=file["id"], endpoint=CHAT, completion_window="24h", metadata={}
    )
    limit = rate_limit_actions.put(context, acme.admin.actor(), acme.project_id, {"tokens_per_day": 5})
    return {"file_id": file["id"], "batch_id": batch["id"], "rate_limit_id": limit["id"]}


def machine(people: People) -> dict[str, str]:
    """Launch a machine that has no host, with a snapshot that is never taken, an image of its own and a key."""
    plane, acme = people.plane, people.acme
    tenant = replace(acme, member=replace(acme.member, client=people.member.browser))
    vm_id = make_vm(plane, tenant, "train-vm")
    snapshot_id = plane.context.new_id("vm_snapshot")
    volume_id = make_volume(tenant, "train-data")
    of_volume = plane.context.new_id("volume_snapshot")
    common = {
        "tenant_id": acme.id,
        "project_id": acme.project_id,
        "name": "train-before",
        "size_gib": 10,
        "created_by": acme.member.principal_id,
        "created_at": plane.clock.now(),
    }
    with plane.db.transaction(SYSTEM) as connection:
        row = vm_store.get(connection, vm_id)
        assert row is not None
        owned.insert(connection, vm_snapshot, {"id": snapshot_id, "service_id": vm_id, **common})
        owned.insert(connection, volume_snapshot, {"id": of_volume, "volume_id": volume_id, **common})
    return {
        "vm_id": vm_id,
        "snapshot_id": snapshot_id,
        "image_id": row["image_id"],
        "volume_id": volume_id,
        "volume_snapshot_id": of_volume,
        "ssh_key_id": make_ssh_key(tenant, "train-key"),
    }


def calendar(people: People, node_id: str, operator: Actor) -> dict[str, str]:
    """Book something for a day to come, and plan maintenance for another."""
    context, acme = people.plane.context, people.acme
    start = context.clock.now() + timedelta(days=2)
    asked = Asked(Order("gpu", acme.project_id, "train-more", {"count": 1}), start, None, 3_600)
    window = Window([node_id], [], start + timedelta(days=2), None, 3_600)
    return {
        "reservation_id": reservation_actions.create(context, acme.member.actor(), asked)["id"],
        "window_id": maintenance_actions.create(context, operator, window)["id"],
    }


def knowledge(people: People) -> dict[str, str]:
    """Make a knowledge base with two documents, one of them deleted, and a network."""
    acme = people.acme
    member = replace(acme.member, client=people.member.browser)
    add_endpoint(Market(people.plane, ()), acme, "embedding", None)
    base_id = make_base(member, acme)
    kept, gone = (upload(member, base_id, name, "Bees make honey.")["id"] for name in ("kept", "gone"))
    proof_id = member.delete(f"/v1/documents/{gone}").json()["proof_id"]
    network_id = member.post("/v1/networks", name="inside", project_id=acme.project_id).json()["id"]
    made = {"base_id": base_id, "document_id": kept, "proof_id": proof_id, "network_id": network_id}
    acme = replace(acme, member=member)
    made["peering_id"] = make_peering(acme, network_id)
    subnet_id = make_subnet(acme, network_id, "first", "10.0.0.0/24")
    balancer = make_balancer(acme, subnet_id, "www", members=[{"address": "10.0.0.9", "port": 80}])
    boss = make_caller(people.plane, people.operator.browser, "robot-2", Role.OPERATOR)
    return (
        made
        | make_parts(acme, boss, network_id, subnet_id)
        | {
            "load_balancer_id": balancer["id"],
            "certificate_id": make_certificate(acme, "www", "www.test"),
        }
    )


def filled(route: Route, objects: dict[str, str]) -> str:
    """Return the path of a route with real ids in it."""
    return route.path_format.format(**{name: objects[name] for name in route.param_convertors})


def test_every_parameter_of_a_page_has_an_object_and_an_owner(
    people: People, objects: dict[str, str]
) -> None:
    named = {
        name
        for method in ("GET", "POST")
        for route in routes(people.plane, method)
        for name in route.param_convertors
    }
    assert named <= set(objects)
    assert named <= OF_TENANT | OF_FACTORY | SHARED


def test_every_page_opens_for_somebody_is_light_and_never_breaks(
    people: People, objects: dict[str, str]
) -> None:
    wrong: list[str] = []
    for route in routes(people.plane, "GET"):
        path = filled(route, objects)
        statuses: list[int] = []
        for person in (people.operator, people.admin, people.member, people.auditor):
            answer = person.get(path)
            statuses.append(answer.status_code)
            if answer.status_code >= 500 or len(answer.content) > PAGE_BYTES_MAX:
                wrong.append(f"{person.name}: {path} -> {answer.status_code}, {len(answer.content)} bytes")
        # A draft has nothing to check itself against; that page is opened by its own test.
        if not {200, 303} & set(statuses) and not path.endswith(("/check", "/scaling", "/objective")):
            wrong.append(f"nobody opens {path}: {statuses}")
    assert not wrong, "\n".join(wrong)


def test_what_is_not_ones_own_is_not_there(people: People, objects: dict[str, str]) -> None:
    wrong: list[str] = []
    csrf = people.stranger.csrf
    for method in ("GET", "POST"):
        for route in routes(people.plane, method):
            parameters = set(route.param_convertors)
            if not parameters or parameters <= SHARED:
                continue
            path = filled(route, objects)
            if method == "GET":
                answer = people.stranger.get(path)
            else:
                answer = people.stranger.client.post(
                    f"{BASE}{path}",
                    data={"csrf": csrf, "role": "member", "password": "x" * 20},
                    headers={"X-CSRF-Token": csrf},  # as scripts send it
                )
            allowed = {404} if parameters & OF_TENANT else {403, 404}
            if answer.status_code not in allowed:
                wrong.append(f"{method} {path} -> {answer.status_code}, not {sorted(allowed)}")
            if "train" in words(answer.text) or "acme" in words(answer.text):
                wrong.append(f"{method} {path} names what is foreign")
    assert not wrong, "\n".join(wrong)


def test_a_page_that_wants_the_password_has_a_change_that_wants_it(
    people: People, objects: dict[str, str], clock: ManualClock
) -> None:
    who = [(person, person.csrf) for person in (people.operator, people.admin)]
    clock.advance(limits.PROOF_LIFE)
    pages, asked, wrong = {route.path for route in routes(people.plane, "GET")}, 0, list[str]()
    for route in routes(people.plane, "POST"):
        path = filled(route, objects)
        for person, token in who if route.path in pages else ():
            if "/proof?" in person.get(path).headers.get("location", ""):
                answer = person.client.post(f"{BASE}{path}", data={"csrf": token}, follow_redirects=False)
                asked += 1
                if "/proof?" not in answer.headers.get("location", ""):
                    wrong.append(f"{path} -> {answer.status_code}")
    assert asked > 15
    assert not wrong, "\n".join(wrong)


def test_menus_differ_by_role_and_every_entry_of_a_menu_opens(people: People) -> None:
    menus: dict[str, list[str]] = {}
    for person in (people.operator, people.admin, people.member, people.auditor):
        page = person.get("/account").text
        nav = page[page.index('aria-label="Main"') : page.index("</nav>")]
        links = re.findall(rf'href="{BASE}(/[^"]*)"', nav)
        menus[person.name] = links
        for link in links:
            assert person.get(link).status_code in (200, 303), (person.name, link)
    assert "/floor" in menus["op@factory.test"]
    assert "/members" in menus["admin@acme.test"]
    assert "/members" not in menus["member@acme.test"]
    assert "/playground" in menus["member@acme.test"]
    assert "/playground" not in menus["auditor@acme.test"]
    assert len({tuple(links) for links in menus.values()}) == 4


def test_pages_that_a_menu_hides_are_refused_all_the_same(people: People) -> None:
    for item in (item for group in FACTORY for item in group.items):
        if item.path in {entry.path for group in TENANT for entry in group.items} or item.path == "/tenants":
            continue
        answer = people.member.get(item.path)
        if item.path in ("/offers", "/prices", "/placement"):
            assert answer.status_code in (200, 403), item.path  # what everybody may read
        else:
            assert answer.status_code == 403, item.path
        assert "simulated-" not in answer.text, item.path


def test_who_may_not_order_or_change_finds_no_button_for_it(people: People, objects: dict[str, str]) -> None:
    order_page = f"/catalogue/{objects['offer_id']}"
    service = f"/services/{objects['service_id']}"
    assert ">Order</button>" in people.member.get(order_page).text
    assert ">Order</button>" not in people.auditor.get(order_page).text
    assert "/release" in people.member.get(service).text
    assert "/release" not in people.auditor.get(service).text
    assert people.auditor.send(f"{service}/release").status_code == 403
    assert (
        people.auditor.send(order_page, {"count": "1", "project": people.acme.project_id}).status_code == 403
    )


def test_texts_of_people_are_never_markup(people: People) -> None:
    evil = "<script>alert(1)</script>"
    assert people.admin.send("/projects", {"name": "mine", "description": evil}).status_code == 303
    assert people.member.send("/keys", {"name": evil, "scope": "llm", "days": "7"}).status_code == 200
    for person, path in ((people.admin, "/members"), (people.member, "/keys"), (people.admin, "/audit")):
        page = person.get(path).text
        assert "alert(1)" in page, path
        assert "<script>alert" not in page, path
    assert "<script>" not in people.member.get(f"/search?q={evil}").text
    assert "<script>alert" not in people.member.get(f"/services?name={evil}").text


@pytest.mark.parametrize(
    "path", ["/services/%00", "/services/%ED%A0%80", "/search?q=%00", "/events?after=x", "/usage?month=9"]
)
def test_nonsense_in_an_address_is_refused_and_never_breaks(people: People, path: str) -> None:
    assert people.admin.get(path).status_code in (200, 404, 422)


FIELDS = [
    "name",
    "email",
    "password",
    "role",
    "days",
    "limit",
    "dimension",
    "month",
    "tenant",
    "price",
    "max_tokens",
    "messages",
    "service",
    "hours",
    "code",
    "theme",
    "next",
    "kind",
    "fixed",
    "version",
    "meter",
    "item",
    "scope",
    "project",
    "principal",
    "offer",
    "start",
    "length",
    "unit",
    "where",
    "public_key",
    "architecture",
    "subject",
    "tokens_per_day",
    "priority",
    "endpoint",
    "file",
    "lines",
    "queue",
    "patience_s",
    "project_id",
    "description",
    "driver",
    "size_gib",
    "pool_id",
    "type",
    "value",
    "ttl_seconds",
    "suffix",
    "name_servers",
    "certificate_pem",
    "private_key_pem",
    "node",
    "underlay_address",
    "external_bridge",
    "prefix",
    "gateway",
    "prefixes",
]


def test_nonsense_in_a_form_is_refused_and_never_breaks(people: People) -> None:
    join_token_actions.announce_listener(people.plane.context, url="https://127.0.0.1:1", ca_sha256="0" * 64)
    tokens = [(person, person.csrf) for person in (people.admin, people.operator)]
    for route in routes(people.plane, "POST"):
        if route.param_convertors or route.path in ("/logout", "/login"):
            continue
        for value in ("", "x" * 5_000, "-1", "1e999", "\u0661", "null"):
            for person, token in tokens:
                body = {**dict.fromkeys(FIELDS, value), "csrf": token}
                answer = person.client.post(f"{BASE}{route.path}", data=body, follow_redirects=False)
                assert answer.status_code < 500, (route.path, value, answer.status_code)
    broken = people.admin.client.post(
        f"{BASE}/keys",
        content=b"csrf=%ff%00&\xff",
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert broken.status_code == 422


def test_an_unknown_page_keeps_the_menu_for_who_is_signed_in(people: People) -> None:
    lost = people.admin.get("/nowhere")
    assert lost.status_code == 404
    assert 'aria-label="Main"' in lost.text
    guest = Person(people.browser()).get("/nowhere")
    assert guest.status_code == 404
    assert 'aria-label="Main"' not in guest.text


def test_the_bare_address_leads_to_the_console_and_the_api_is_beside_it(people: People) -> None:
    client = people.admin.client
    assert client.get("/", follow_redirects=False).headers["location"] == f"{BASE}/"
    assert client.get("/v1/openapi.json").status_code == 200
    assert client.get("/healthz").status_code == 200
    people.admin.get("/services/svc_0")
    assert 'route="/console/services/{service_id}",status="404"' in client.get("/metrics").text
