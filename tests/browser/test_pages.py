"""Every page in every look: accessible, inside the window, without errors, from this host alone. Takes pictures.

``make screenshots`` sets SCREENSHOTS to a folder; without it nothing is written.
"""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browser import Site, Window, window

pytestmark = pytest.mark.xdist_group("browser")
FOLDER = os.environ.get("SCREENSHOTS")
PAGE_BYTES_MAX = 300_000


def furnish(site: Site) -> dict[str, str]:
    """Order things, so that the pages have something to show; return ids by name."""
    endpoint = site.order("llm-demo", "assistant")
    train = site.order("gpu", "train", count=4, device_class="H100")
    site.order("gpu", "tune", count=3, device_class="H100")
    site.order("gpu", "notebook", count=1, device_class="H100", slices=2)
    waiting = site.order("gpu", "big", count=12, device_class="H100")
    with site.signed_in("demo") as one:
        one.open(f"/services/{endpoint}")
        expect(one.page.locator(".title .badge").first).to_have_text("running")
        one.open(f"/services/{train}")
        expect(one.page.locator(".title .badge").first).to_have_text("running")
    tenant = site.api("demo", "GET", "/v1/whoami")["tenant"]["id"]
    for dimension, limit in (("services", 8), ("devices:H100", 40)):
        body = {"dimension": dimension, "limit": limit, "tenant_id": tenant}
        site.api("operator", "PUT", "/v1/quotas", json=body)
    site.api("operator", "POST", "/v1/invoices", json={"tenant_id": tenant, "period": month(site)})
    invoice = site.api("demo", "GET", "/v1/invoices")["items"][0]["id"]
    offer = site.api("demo", "GET", "/v1/offers", params={"name": "gpu"})["items"][0]["id"]
    node = site.api("demo", "GET", f"/v1/services/{train}")["allocations"][0]["node_id"]
    device = site.api("operator", "GET", f"/v1/nodes/{node}")["devices"][0]["id"]
    key = site.api("demo", "GET", "/v1/api-keys")["items"][0]["id"]
    base, document = knowledge(site)
    return {
        "base": base,
        "document": document,
        "endpoint": endpoint,
        "train": train,
        "waiting": waiting,
        "tenant": tenant,
        "invoice": invoice,
        "offer": offer,
        "node": node,
        "device": device,
        "key": key,
    }


def knowledge(site: Site) -> tuple[str, str]:
    """Make a knowledge base with one document; return both ids."""
    with site.signed_in("demo") as one:
        one.open(f"/services/{site.order('embedding', 'vectors')}")
        expect(one.page.locator(".title .badge").first).to_have_text("running")
    project = site.api("demo", "GET", "/v1/projects")["items"][0]["id"]
    body = {"name": "handbook", "project_id": project, "service": "vectors"}
    base = site.api("demo", "POST", "/v1/knowledge_bases", json=body)["id"]
    text = (Path(__file__).parents[2] / "docs" / "guides" / "operate.md").read_bytes()
    path = f"/v1/knowledge_bases/{base}/documents"
    document = site.api("demo", "POST", path, params={"name": "operate.md"}, content=text)["id"]
    return base, document


def month(site: Site) -> str:
    return str(site.api("operator", "GET", "/v1/usage")["from"])[:7]


DEMO = (
    ("home", "/"),
    ("catalogue", "/catalogue"),
    ("order", "/catalogue/{offer}?count=20&device_class=H100"),
    ("services", "/services"),
    ("service", "/services/{endpoint}"),
    ("service-gpu", "/services/{train}"),
    ("service-waiting", "/services/{waiting}"),
    ("segments", "/services/{train}/segments"),
    ("release", "/services/{train}/release"),
    ("playground", "/playground"),
    ("knowledge", "/knowledge"),
    ("knowledge-base", "/knowledge/{base}"),
    ("document", "/documents/{document}"),
    ("proofs", "/proofs"),
    ("keys", "/keys"),
    ("revoke", "/keys/{key}/revoke"),
    ("usage", "/usage"),
    ("invoices", "/invoices"),
    ("invoice", "/invoices/{invoice}"),
    ("members", "/members"),
    ("quotas", "/quotas"),
    ("events", "/events"),
    ("audit", "/audit"),
    ("account", "/account"),
    ("search", "/search?q=t"),
    ("proof", "/proof"),
    ("not-found", "/nowhere"),
)
OPERATOR = (
    ("floor", "/floor"),
    ("node", "/nodes/{node}"),
    ("device", "/devices/{device}"),
    ("capacity", "/capacity"),
    ("placement", "/placement"),
    ("decision", "/placement/{waiting}"),
    ("power", "/power"),
    ("agents", "/agents"),
    ("tenants", "/tenants"),
    ("tenant", "/tenants/{tenant}"),
    ("factory-members", "/members"),
    ("offers", "/offers"),
    ("offer-editor", "/offers/{offer}"),
    ("prices", "/prices"),
    ("money", "/money"),
    ("factory-usage", "/usage?by=tenant"),
    ("factory-invoices", "/invoices"),
)


@pytest.fixture(scope="module")
def ids(site: Site) -> dict[str, str]:
    """Ids of what the pages show."""
    return furnish(site)


def settle(one: Window, name: str) -> None:
    """Wait until a page has drawn itself."""
    one.page.evaluate("document.fonts.ready")
    if name == "floor":
        expect(one.page.locator("#floor")).to_have_attribute("data-ready", re.compile("[1-9]"))


def look_at(one: Window, look: str, name: str, path: str) -> list[str]:
    """Open a page, take its picture if asked to, and return what is wrong with it."""
    one.open(path)
    settle(one, name)
    wrong = [
        f"{name} ({look}): wider than the window by {over} px" for over in [one.overflow_pixels()] if over > 0
    ]
    # What a look changes is colours and what fits; the rest is judged once.
    if look != "phone":
        rules = ("color-contrast",) if look == "dark" else ()
        wrong += [f"{name} ({look}): {sentence}" for sentence in one.violations(*rules)]
    if FOLDER:
        Path(FOLDER).mkdir(parents=True, exist_ok=True)
        one.page.screenshot(path=Path(FOLDER) / f"{name}-{look}.png", full_page=True)
    return wrong


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_every_page_is_accessible_in_its_window_and_without_errors(
    site: Site, ids: dict[str, str], look: str
) -> None:
    wrong: list[str] = []
    with window(site.browser, site.factory.url, look) as guest:
        wrong += look_at(guest, look, "login", "/login")
        wrong += guest.errors + guest.strangers
    for who, pages in (("demo", DEMO), ("operator", OPERATOR)):
        with site.signed_in(who, look) as one:
            for name, path in pages:
                wrong += look_at(one, look, name, path.format(**ids))
            wrong += one.errors + one.strangers
    assert not wrong, "\n".join(wrong)


def test_the_first_page_is_light_on_the_wire(site: Site, ids: dict[str, str]) -> None:
    del ids
    with site.signed_in("demo") as one:
        weight = 0
        session = one.page.context.new_cdp_session(one.page)
        session.send("Network.enable")
        session.send("Network.setCacheDisabled", {"cacheDisabled": True})

        def finished(event: dict[str, float]) -> None:
            nonlocal weight
            weight += int(event["encodedDataLength"])

        session.on("Network.loadingFinished", finished)
        one.open("/")
        settle(one, "home")
        expect(one.page.locator("#live-sign")).to_contain_text("Live")
        assert 20_000 < weight < PAGE_BYTES_MAX, weight


def test_the_judge_finds_what_is_planted(site: Site) -> None:
    with window(site.browser, site.factory.url) as one:
        one.open("/login")
        one.page.evaluate(
            "document.querySelector('h1').insertAdjacentHTML('afterend', "
            "'<input><p class=\"planted\">pale</p>'); "
            "Object.assign(document.querySelector('.planted').style, {color: '#ddd', width: '4000px'})"
        )
        found = " ".join(one.violations())
        assert "label" in found
        assert "color-contrast" in found
        assert one.overflow_pixels() > 0
