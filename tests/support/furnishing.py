"""Things in a factory that the console shows: ordered, booked and made over the API, so that no page is empty."""

from datetime import timedelta
from pathlib import Path

from playwright.sync_api import expect

from penstock.base.clock import SystemClock
from tests.support.batches import CHAT, jsonl, request_line
from tests.support.browser import Site
from tests.support.machine_objects import SSH_KEY, qcow2


def furnish(site: Site) -> dict[str, str]:
    """Order things, so that the pages have something to show; return ids by name."""
    endpoint, model = site.running("llm-demo", "assistant")
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
    for dimension, limit in (("services", 10), ("devices:H100", 40)):
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
        **calendar(site),
        **machines(site),
        **traffic(site, endpoint, model, tenant),
        **networks(site),
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


def networks(site: Site) -> dict[str, str]:
    """Make a network with a load balancer that listens with a certificate."""
    project = site.api("demo", "GET", "/v1/projects")["items"][0]["id"]
    network = site.api("demo", "POST", "/v1/networks", json={"name": "inside", "project_id": project})["id"]
    at = {"network_id": network, "name": "front", "prefix": "10.0.0.0/24"}
    subnet = site.api("demo", "POST", "/v1/subnets", json=at)["id"]
    asked = {"name": "www", "project_id": project, "names": ["www.inside.internal", "10.0.0.2"]}
    certificate = site.api("demo", "POST", "/v1/certificates", json=asked)["id"]
    body = {
        "name": "www",
        "subnet_id": subnet,
        "listeners": [{"port": 443, "mode": "https", "certificate_id": certificate}],
        "members": [{"address": f"10.0.0.{number}", "port": 8_080} for number in (8, 9)],
    }
    balancer = site.api("demo", "POST", "/v1/load-balancers", json=body)["id"]
    made = {"balancer": balancer, "network": network, "subnet": subnet, "certificate": certificate}
    return made | network_parts(site, project, network, subnet)


def network_parts(site: Site, project: str, network: str, subnet: str) -> dict[str, str]:
    """Make a port under a group with rules, a route and a name, an address of the outside, a public name and a volume."""

    def make(path: str, who: str = "demo", **body: object) -> str:
        return str(site.api(who, "POST", path, json=body)["id"])

    port = make("/v1/ports", subnet_id=subnet, name="web-1")
    group = make("/v1/security-groups", network_id=network, name="web")
    office = {"protocol": "tcp", "port_min": 22, "prefix": "203.0.113.0/24", "description": "the office"}
    for rule in (office, {"protocol": "tcp", "port_min": 8_000, "port_max": 8_080, "remote_group_id": group}):
        make(f"/v1/security-groups/{group}/rules", direction="in", **rule)
    site.api(
        "demo",
        "POST",
        f"/v1/security-groups/{group}/bindings",
        json={"scope": "subnet", "target_id": subnet},
    )
    make("/v1/network-routes", network_id=network, name="office", prefix="192.168.0.0/16", port_id=port)
    make("/v1/dns-records", network_id=network, name="db", type="A", value="10.0.0.9")
    outside = {"prefix": "198.51.100.0/28", "gateway": "198.51.100.1"}
    pool = make("/v1/address-pools", "operator", name="world", **outside)
    address = make("/v1/floating-addresses", project_id=project, pool_id=pool, name="shop")
    site.api("demo", "PUT", f"/v1/floating-addresses/{address}/port", json={"port_id": port})
    served = {"suffix": "cloud.example.net", "name_servers": ["ns1.example.net"]}
    site.api("operator", "PUT", "/v1/public-dns", json=served)
    record = make("/v1/public-records", project_id=project, name="www", type="A", value="198.51.100.2")
    volume = make("/v1/volumes", project_id=project, name="data", size_gib=40, encrypted=True)
    return {
        "port": port,
        "group": group,
        "address": address,
        "public_record": record,
        "volume": volume,
    }


def clear(site: Site, ids: dict[str, str]) -> None:
    """Give back the devices that ``furnish`` holds and books, so that other tests find the factory as roomy as it was."""
    site.api("operator", "DELETE", f"/v1/maintenance/{ids['window']}")
    for row in site.api("demo", "GET", "/v1/reservations", params={"state": "booked"})["items"]:
        site.api("demo", "DELETE", f"/v1/reservations/{row['id']}")
    for row in site.api("demo", "GET", "/v1/services", params={"kind": "gpu"})["items"]:
        if row["state"] not in ("released", "failed"):
            site.api("demo", "DELETE", f"/v1/services/{row['id']}")
    for row in site.api("demo", "GET", "/v1/services", params={"kind": "vm"})["items"]:
        site.api("demo", "DELETE", f"/v1/services/{row['id']}")
    for row in site.api("operator", "GET", "/v1/quotas")["items"]:
        if row["tenant_id"] == ids["tenant"]:
            site.api("operator", "DELETE", f"/v1/quotas/{row['id']}")


def month(site: Site) -> str:
    """Return the running month as a label."""
    return str(site.api("operator", "GET", "/v1/usage")["from"])[:7]


def calendar(site: Site) -> dict[str, str]:
    """Book twice for the days to come, and plan maintenance of a node."""
    now = SystemClock().now().replace(minute=0, second=0, microsecond=0)
    project = site.api("demo", "GET", "/v1/projects")["items"][0]["id"]
    ids: list[str] = []
    for name, count, start_h, hours in (("demo-day", 4, 26, 8), ("nightly", 2, 60, 30)):
        body = {
            "offer": "gpu",
            "project": project,
            "name": name,
            "duration_s": hours * 3_600,
            "spec": {"count": count, "device_class": "H100"},
            "start_at": (now + timedelta(hours=start_h)).isoformat(),
        }
        ids.append(site.api("demo", "POST", "/v1/reservations", json=body)["id"])
    held = {one["node_id"] for one in site.api("operator", "GET", f"/v1/reservations/{ids[0]}")["held"]}
    nodes = site.api("operator", "GET", "/v1/nodes", params={"simulated": True})["items"]
    free = next(one for one in reversed(nodes) if one["id"] not in held)
    window = site.api(
        "operator",
        "POST",
        "/v1/maintenance",
        json={
            "nodes": [free["id"]],
            "start_at": (now + timedelta(hours=100)).isoformat(),
            "duration_s": 6 * 3_600,
            "name": "firmware",
            "description": "new firmware for its switches",
        },
    )
    busy = next(one for one in nodes if one["devices_used"])
    return {"reservation": ids[0], "window": window["id"], "node_name": busy["name"]}


def traffic(site: Site, endpoint: str, model: str, tenant: str) -> dict[str, str]:
    """Let an endpoint scale and promise, limit its project, guarantee devices, and make a batch."""
    project = site.api("demo", "GET", "/v1/projects")["items"][0]["id"]
    policy = {"replicas_min": 1, "replicas_max": 2, "queue_target": 4}
    site.api("demo", "PUT", f"/v1/services/{endpoint}/scaling", json=policy)
    promise = {"ttft_ms": 2_000, "percent": 95, "availability_percent": 99.5}
    site.api("demo", "PUT", f"/v1/services/{endpoint}/objective", json=promise)
    limited = {"subject_id": project, "requests_per_minute": 600, "microeur_per_month": 50_000_000}
    site.api("demo", "PUT", "/v1/rate-limits", json=limited)
    body = {"dimension": "devices:H100", "limit": 40, "guaranteed": 6, "tenant_id": tenant}
    site.api("operator", "PUT", "/v1/quotas", json=body)
    lines = [request_line(f"q{number}", model=model, max_tokens=8) for number in range(3)]
    sent = {"data": {"purpose": "batch"}, "files": {"file": ("questions.jsonl", jsonl(lines))}}
    file = site.api("demo", "POST", "/v1/files", **sent)["id"]
    body = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    return {"batch": site.api("demo", "POST", "/v1/batches", json=body)["id"]}


def machines(site: Site, suffix: str = "") -> dict[str, str]:
    """Register a key, announce and send an image, and launch a machine; this factory has no host for it.

    The names end in ``suffix``.
    """
    project = site.api("demo", "GET", "/v1/projects")["items"][0]["id"]
    body = {"project_id": project, "name": f"laptop{suffix}", "public_key": SSH_KEY}
    key = site.api("demo", "POST", "/v1/ssh-keys", json=body)["id"]
    body = {"project_id": project, "name": f"small-linux{suffix}", "description": "a few MiB of Linux"}
    image = site.api("demo", "POST", "/v1/images", json=body)["id"]
    site.api("demo", "PUT", f"/v1/images/{image}/content", content=qcow2())
    site.api("demo", "POST", "/v1/images", json={**body, "name": f"custom{suffix}"})
    spec = {"image": f"small-linux{suffix}", "ssh_keys": [f"laptop{suffix}"], "tags": {"tier": "web"}}
    vm = site.api(
        "demo", "POST", "/v1/vms", json={"project_id": project, "name": f"web-1{suffix}", "spec": spec}
    )
    offers = site.api("demo", "GET", "/v1/offers", params={"kind": "vm"})["items"]
    return {"vm": vm["id"], "vm_offer": offers[0]["id"], "ssh_key": key, "image": image}


def knowledge(site: Site) -> tuple[str, str]:
    """Make a knowledge base with one document; return both ids."""
    service, name = site.running("embedding", "vectors")
    with site.signed_in("demo") as one:
        one.open(f"/services/{service}")
        expect(one.page.locator(".title .badge").first).to_have_text("running")
    project = site.api("demo", "GET", "/v1/projects")["items"][0]["id"]
    body = {"name": "handbook", "project_id": project, "service": name}
    base = site.api("demo", "POST", "/v1/knowledge_bases", json=body)["id"]
    text = (Path(__file__).parents[2] / "docs" / "guides" / "operate.md").read_bytes()
    path = f"/v1/knowledge_bases/{base}/documents"
    document = site.api("demo", "POST", path, params={"name": "operate.md"}, content=text)["id"]
    return base, document
