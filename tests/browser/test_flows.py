"""People in a real browser: order, watch, chat, pay; hit a quota; lose a node; change a price; search; no scripts."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browser import Site, Window

pytestmark = pytest.mark.xdist_group("browser")


def clean(*windows: Window) -> None:
    """Fail if a page had an error, or asked anybody but the factory."""
    for one in windows:
        assert one.errors == []
        assert one.strangers == []


def test_order_an_endpoint_watch_it_start_talk_to_it_and_see_what_it_cost(site: Site) -> None:
    with site.signed_in("demo") as window:
        page = window.page
        page.get_by_role("link", name="Catalogue", exact=True).click()
        page.get_by_role("link", name="Order LLM endpoint (demonstration model)").click()
        expect(page.locator("#plan")).to_contain_text("per million tokens out")
        expect(page.locator("#plan")).to_contain_text("Starts now")
        page.get_by_label("Name").fill("chat")
        page.get_by_role("button", name="Order", exact=True).click()
        page.wait_for_url("**/services/svc_*")
        expect(page.locator("h1")).to_have_text("chat")
        # No reload: the page follows the service by itself.
        expect(page.locator(".title .badge").first).to_have_text("running")
        expect(page.locator(".pipe li.done")).to_have_count(6)
        page.get_by_role("link", name="Talk to it").click()
        page.get_by_label("Your message").fill("What is a GPU?")
        page.get_by_role("button", name="Send").click()
        answer = page.locator(".turn:not(.mine)")
        expect(answer.locator("footer")).to_contain_text("EUR")
        expect(answer).to_contain_text(re.compile("[a-z]{3}"))
        expect(page.locator("[data-m=tokens]")).to_contain_text("in,")
        expect(page.locator("[data-m=first]")).to_contain_text(re.compile("ms|s"))
        expect(page.locator("[data-m=speed]")).to_contain_text("tokens/s")
        window.open("/usage?by=service")
        expect(page.locator("#usage")).to_contain_text("output tokens")
        expect(page.locator("#usage tfoot")).to_contain_text("EUR")
        page.locator("#usage").get_by_role("link", name="chat").first.click()
        expect(page.locator(".pipe li.done")).to_have_count(7)
        expect(page.locator("#service")).to_contain_text("first token")
        clean(window)


def test_the_price_moves_while_typing_and_a_quota_is_explained(site: Site) -> None:
    tenant = site.api("demo", "GET", "/v1/whoami")["tenant"]["id"]
    body = {"dimension": "devices:H100", "limit": 6, "tenant_id": tenant}
    quota = site.api("operator", "PUT", "/v1/quotas", json=body)
    offers = site.api("demo", "GET", "/v1/offers", params={"name": "gpu"})["items"]
    with site.signed_in("demo") as window:
        page = window.page
        window.open(f"/catalogue/{offers[0]['id']}")
        page.get_by_label("Device class").select_option("H100")
        page.get_by_label("Devices", exact=True).fill("4")
        expect(page.locator("#plan")).to_contain_text("10.00 EUR per hour")
        page.get_by_label("Devices", exact=True).fill("8")
        expect(page.locator("#plan")).to_contain_text("20.00 EUR per hour")
        expect(page.locator("#plan")).to_contain_text("Your quota stands in the way")
        page.get_by_role("button", name="Order", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("order less, release something, or ask an operator")
        expect(page.get_by_label("Devices", exact=True)).to_have_value("8")
        clean(window)
    site.api("operator", "DELETE", f"/v1/quotas/{quota['id']}")


def test_a_node_dies_on_the_floor_and_the_service_moves(site: Site) -> None:
    service = site.order("gpu", "fragile", count=4, device_class="H100")
    with site.signed_in("demo") as tenant, site.signed_in("operator") as operator:
        tenant.open(f"/services/{service}")
        expect(tenant.page.locator(".title .badge").first).to_have_text("running")
        node = site.api("demo", "GET", f"/v1/services/{service}")["allocations"][0]
        floor = operator.page
        operator.open("/floor")
        expect(floor.locator("#floor")).to_have_attribute("data-ready", re.compile(r"[1-9]"))
        expect(floor.locator("#floor-table")).not_to_contain_text("not ready")
        site.api("operator", "POST", f"/v1/simulated/nodes/{node['node_id']}/fail")
        # Both pages say so by themselves.
        expect(floor.locator("#floor-table")).to_contain_text(f"1 node is not ready: {node['node_name']}")
        other = tenant.page.locator("#service tbody tr", has_text="ready").first
        expect(other).not_to_contain_text(node["node_name"])
        expect(tenant.page.locator(".title .badge").first).to_have_text("running")
        floor.get_by_label("Colour by").select_option("tenant")
        expect(floor.locator("#floor-legend")).to_contain_text("demo")
        floor.locator("#floor-table").get_by_role("link", name=node["node_name"]).click()
        floor.get_by_role("button", name="Heal").click()
        expect(floor.locator(".title .badge").first).to_have_text("ready")
        clean(tenant, operator)
    site.api("demo", "DELETE", f"/v1/services/{service}")


def test_an_operator_changes_a_price_and_the_next_dry_run_shows_it(site: Site) -> None:
    offers = site.api("demo", "GET", "/v1/offers", params={"name": "gpu"})["items"]
    with site.signed_in("operator") as operator, site.signed_in("demo") as tenant:
        page = operator.page
        operator.open("/prices")
        page.get_by_label("Of", exact=True).fill("A100")
        page.get_by_label("Price in EUR").fill("1.75")
        page.get_by_role("button", name="Publish the next version").click()
        expect(page.locator(".note.good")).to_contain_text("is published")
        expect(page.locator("#prices")).to_contain_text("1.75 EUR")
        tenant.open(f"/catalogue/{offers[0]['id']}?device_class=A100&count=2")
        expect(tenant.page.locator("#plan")).to_contain_text("3.50 EUR per hour")
        assert "/floor" in page.locator("nav[aria-label=Main]").inner_html()
        assert "/floor" not in tenant.page.locator("nav[aria-label=Main]").inner_html()
        tenant.page.goto(f"{tenant.url}/console/nodes/nod_{'0' * 26}")
        expect(tenant.page.locator("h1")).to_have_text("Not found")
        clean(operator, tenant)


def test_documents_go_in_are_asked_and_leave_a_proof(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "bees.md"
    file.write_text("# Bees\n\nBees make honey in hives. Wasps make paper nests.\n")
    with site.signed_in("demo") as window:
        page = window.page
        page.get_by_role("link", name="Knowledge bases").click()
        expect(page.locator("h1")).to_have_text("Knowledge bases")
        if not site.is_running("embedding"):  # another test may have ordered one
            page.get_by_role("link", name="Order an embedding endpoint").click()
            page.get_by_role("button", name="Order", exact=True).click()
            expect(page.locator(".title .badge").first).to_have_text("running")
        window.open("/knowledge")
        page.get_by_label("Name").fill("insects")
        page.get_by_role("button", name="Make it").click()
        page.locator("#files").set_input_files(file)
        expect(page.locator("#uploads")).to_contain_text("sent; it is indexed now")
        # No reload: the table follows the document by itself.
        expect(page.locator("#documents .badge")).to_have_text("ready")
        page.get_by_label("Your question").fill("Who makes honey?")
        page.get_by_label("Answer by").select_option("")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("#answer")).to_contain_text("Bees make honey in hives.")
        page.locator("#answer").get_by_role("link", name="bees.md").click()
        page.get_by_role("link", name="Delete").click()
        expect(page.locator("main")).to_contain_text("cannot be undone")
        page.get_by_role("button", name="Delete the document").click()
        expect(page.locator(".title .badge")).to_have_text("signed")
        clean(window)


def test_search_is_at_hand_everywhere_and_the_keyboard_is_enough(site: Site) -> None:
    with site.signed_in("demo") as window:
        page = window.page
        page.keyboard.press("Control+k")
        palette = page.get_by_role("dialog", name="Search")
        expect(palette).to_be_visible()
        page.keyboard.type("invoic")
        expect(palette.get_by_role("link")).to_have_text([re.compile("Invoices")])
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/invoices")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        clean(window)


def test_a_lost_connection_is_said_and_comes_back(site: Site) -> None:
    with site.signed_in("demo") as window:
        page = window.page
        expect(page.locator("#live-sign")).to_contain_text("Live, updated")
        page.route("**/console/live", lambda route: route.abort())
        page.reload()
        expect(page.locator("#live-sign")).to_contain_text("Connection lost, trying again")
        page.unroute("**/console/live")
        expect(page.locator("#live-sign")).to_contain_text("Live, updated")


def test_without_scripts_everything_reads_and_an_order_goes_through(site: Site) -> None:
    offers = site.api("demo", "GET", "/v1/offers", params={"name": "gpu"})["items"]
    with site.signed_in("demo", java_script_enabled=False) as window:
        page = window.page
        window.open(f"/catalogue/{offers[0]['id']}")
        expect(page.locator("#plan")).to_contain_text("per hour")
        page.get_by_label("Name").fill("plain")
        page.get_by_role("button", name="Order", exact=True).click()
        expect(page.locator("h1")).to_have_text("plain")
        page.get_by_role("link", name="Release").click()
        page.get_by_role("button", name="Release plain").click()
        expect(page.locator(".note.good")).to_contain_text("is released in 30 seconds")
        page.get_by_role("button", name="Keep it").click()
        expect(page.locator(".note.good")).to_contain_text("is kept; nothing was stopped")
        page.get_by_role("link", name="Release").click()
        page.get_by_role("button", name="Release plain").click()
        page.get_by_role("button", name="Release it now").click()
        expect(page.locator(".note.good")).to_contain_text("is being released")
    with site.signed_in("operator", java_script_enabled=False) as window:
        window.open("/floor")
        expect(window.page.locator("#floor-table")).to_contain_text("By rack")


def test_a_network_is_opened_to_the_office_with_the_keyboard_and_without_scripts(site: Site) -> None:
    project = site.api("demo", "GET", "/v1/projects")["items"][0]["id"]
    network = site.api("demo", "POST", "/v1/networks", json={"name": "keyboard", "project_id": project})["id"]
    with site.signed_in("demo") as one:
        page = one.page
        one.open(f"/networks/{network}")
        page.get_by_role("link", name="Add a subnet").press("Enter")
        page.get_by_label("Name", exact=True).fill("Front")
        page.get_by_label("Prefix").fill("10.7.0.0/24")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("look at the field that is marked")
        expect(page.get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "true")
        expect(page.get_by_label("Prefix")).to_have_value("10.7.0.0/24")
        assert one.violations() == []
        page.get_by_label("Name", exact=True).fill("front")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status").filter(has_text="'front' is added")).to_be_visible()
        expect(page.locator("#network")).to_contain_text("10.7.0.0/24")
    with site.signed_in("demo", java_script_enabled=False) as plain:
        page = plain.page
        plain.open(f"/networks/{network}/security-groups/new")
        page.get_by_label("Name", exact=True).fill("office")
        page.get_by_role("button", name="Add it").click()
        page.get_by_role("link", name="Add a rule").click()
        page.get_by_label("Ports").fill("22")
        page.get_by_label("The other side's prefix").fill("203.0.113.0/24")
        page.get_by_role("button", name="Let it through").click()
        expect(page.get_by_text("in tcp 22 from 203.0.113.0/24")).to_be_visible()
        clean(one, plain)
    site.api("demo", "DELETE", f"/v1/networks/{network}")
