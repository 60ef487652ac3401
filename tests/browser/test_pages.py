"""Every page in every look: accessible, inside the window, without errors, from this host alone. Takes pictures.

``make screenshots`` sets SCREENSHOTS to a folder; without it nothing is written.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browser import Site, Window, window
from tests.support.furnishing import clear, furnish

pytestmark = pytest.mark.xdist_group("browser")
FOLDER = os.environ.get("SCREENSHOTS")
PAGE_BYTES_MAX = 300_000


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
    ("reservations", "/reservations"),
    ("reservation-new", "/reservations/new?offer={offer}&device_class=H100&count=4"),
    ("reservation", "/reservations/{reservation}"),
    ("reservation-cancel", "/reservations/{reservation}/cancel"),
    ("machines", "/machines"),
    ("machine", "/machines/{vm}"),
    ("machine-console", "/machines/{vm}/console"),
    ("machine-launch", "/catalogue/{vm_offer}?image=small-linux"),
    ("machine-clone", "/machines/{vm}/clone"),
    ("images", "/images"),
    ("image", "/images/{image}"),
    ("image-sharing", "/images/{image}/sharing"),
    ("volumes", "/volumes"),
    ("volume-new", "/volumes/new"),
    ("volume", "/volumes/{volume}"),
    ("volume-clone", "/volumes/{volume}/clone"),
    ("ssh-keys", "/ssh-keys"),
    ("load-balancers", "/load-balancers"),
    ("load-balancer", "/load-balancers/{balancer}"),
    ("load-balancer-change", "/load-balancers/{balancer}/edit"),
    ("certificates", "/certificates"),
    ("certificate", "/certificates/{certificate}"),
    ("certificate-upload", "/certificates/upload"),
    ("networks", "/networks"),
    ("network", "/networks/{network}"),
    ("subnet", "/subnets/{subnet}"),
    ("port", "/ports/{port}"),
    ("security-group", "/security-groups/{group}"),
    ("security-rule", "/security-groups/{group}/rules/new"),
    ("floating-addresses", "/floating-addresses"),
    ("public-names", "/public-names"),
    ("public-name-new", "/public-names/new"),
    ("flows", "/flows"),
    ("scaling", "/services/{endpoint}/scaling"),
    ("objective", "/services/{endpoint}/objective"),
    ("objectives", "/objectives"),
    ("rate-limits", "/rate-limits"),
    ("shares", "/shares"),
    ("batches", "/batches"),
    ("batch", "/batches/{batch}"),
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
    ("factory-shares", "/shares"),
    ("factory-promises", "/objectives"),
    ("machine-move", "/machines/{vm}/move"),
    ("calendar", "/reservations"),
    ("maintenance", "/maintenance"),
    ("maintenance-plan", "/maintenance/plan?where={node_name}&length=2&unit=hours"),
    ("window", "/maintenance/{window}"),
    ("placement", "/placement"),
    ("decision", "/placement/{waiting}"),
    ("fabric-nodes", "/fabric-nodes"),
    ("power", "/power"),
    ("power-budgets", "/power/budgets?level=node"),
    ("power-sleep", "/power/sleep"),
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
def ids(site: Site) -> Iterator[dict[str, str]]:
    """Ids of what the pages show."""
    made = furnish(site)
    yield made
    clear(site, made)


def settle(one: Window, name: str) -> None:
    """Wait until a page has drawn itself."""
    one.page.evaluate("document.fonts.ready")
    if name == "floor":
        expect(one.page.locator("#floor")).to_have_attribute("data-ready", re.compile("[1-9]"))


LOOKS: tuple[tuple[str, str, tuple[int, int]], ...] = (
    ("light", "light", (1360, 860)),
    ("dark", "dark", (1360, 860)),
    ("phone", "light", (380, 800)),
)


def look_at(one: Window, name: str, path: str) -> list[str]:
    """Open a page, look at it in each look, take its pictures if asked to, and return what is wrong with it.

    It is loaded once: a look changes colours and what fits. Rules are judged in the light; tests/unit/console/
    test_assets.py has the contrast of the dark colours.
    """
    one.open(path)
    settle(one, name)
    wrong = [f"{name}: {sentence}" for sentence in one.violations()]
    for look, scheme, (width, height) in LOOKS:
        if look != "light":
            one.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            one.page.set_viewport_size({"width": width, "height": height})
        over = one.overflow_pixels()
        wrong += [f"{name} ({look}): wider than the window by {over} px"] if over > 0 else []
        if FOLDER:
            settle(one, name)
            Path(FOLDER).mkdir(parents=True, exist_ok=True)
            one.page.screenshot(path=Path(FOLDER) / f"{name}-{look}.png", full_page=True)
    one.page.emulate_media(color_scheme="light")
    one.page.set_viewport_size({"width": 1360, "height": 860})
    return wrong


def test_every_page_is_accessible_in_its_window_and_without_errors(site: Site, ids: dict[str, str]) -> None:
    wrong: list[str] = []
    with window(site.browser, site.factory.url) as guest:
        wrong += look_at(guest, "login", "/login")
        wrong += guest.errors + guest.strangers
    for who, pages in (("demo", DEMO), ("operator", OPERATOR)):
        with site.signed_in(who) as one:
            for name, path in pages:
                wrong += look_at(one, name, path.format(**ids))
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
