"""Public records: written by tenants, answered to the world by UDP and TCP, refused where they make no sense."""

from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest

from penstock.base.errors import UnavailableError
from penstock.control_plane import ControlPlane
from penstock.drivers.public_dns.server import PublicDns
from penstock.up.public_dns import ZoneReader
from tests.support.networks import made
from tests.support.tenancy import Caller, Tenant

PATH = "/v1/public-records"
SUFFIX = "cloud.example.net"


def refused(answer: Any, status: int, code: str, field: str | None = None) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["field"]) == (code, field), error
    return str(error["message"])


def serve(operator: Caller) -> None:
    made(operator.put("/v1/public-dns", suffix=SUFFIX, name_servers=["ns1.example.net"]))


def write(tenant: Tenant, name: str, kind: str, value: str, **more: Any) -> Any:
    body = {"project_id": tenant.project_id, "name": name, "type": kind, "value": value, **more}
    return tenant.member.post(PATH, **body)


def test_what_tenants_write_the_world_is_answered_and_no_longer_when_it_is_deleted(
    control_plane: ControlPlane,
    operator: Caller,
    acme: Tenant,
    globex: Tenant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serve(operator)
    zone = acme.member.get("/v1/public-dns").json()["zone"]
    record = made(write(acme, "www", "A", "198.51.100.3", ttl_seconds=60))
    assert record["full_name"] == f"www.{zone}"
    made(write(globex, "www", "AAAA", "2001:db8::7"))
    with PublicDns("127.0.0.1", 0) as server:
        reader = ZoneReader(control_plane, server)

        def ask(name: str, kind: str, by: Any = dns.query.udp) -> Any:
            query = dns.message.make_query(name, kind)
            return by(query, "127.0.0.1", port=server.port, timeout=5)

        assert ask(record["full_name"], "A").rcode() == dns.rcode.REFUSED, "not read yet"
        reader.look()
        for by in (dns.query.udp, dns.query.tcp):
            (found,) = ask(record["full_name"], "A", by).answer
            assert (found.ttl, [one.to_text() for one in found]) == (60, ["198.51.100.3"])
        theirs = globex.member.get("/v1/public-dns").json()["zone"]
        assert ask(f"www.{theirs}", "AAAA").answer[0][0].to_text() == "2001:db8::7"
        assert acme.member.delete(f"{PATH}/{record['id']}").status_code == 204
        with monkeypatch.context() as broken:
            broken.setattr(control_plane.db, "transaction", _away)
            reader.look()
        assert ask(record["full_name"], "A").answer, "the database is away: what was read last is served"
        reader.look()
        assert ask(record["full_name"], "A").rcode() == dns.rcode.NXDOMAIN
        made(operator.put("/v1/public-dns", suffix=None))
        reader.look()
        assert ask(f"www.{theirs}", "AAAA").rcode() == dns.rcode.REFUSED


def _away(*_: object) -> Any:
    raise UnavailableError("the database cannot be reached")


def test_records_and_zones_that_make_no_sense_are_refused(
    operator: Caller, acme: Tenant, globex: Tenant
) -> None:
    refused(write(acme, "www", "A", "198.51.100.3"), 409, "conflict")
    refused(
        acme.admin.put("/v1/public-dns", suffix=SUFFIX, name_servers=["ns1.example.net"]), 403, "forbidden"
    )
    refused(
        operator.put("/v1/public-dns", suffix="net", name_servers=["a.b"]), 422, "invalid_input", "suffix"
    )
    refused(operator.put("/v1/public-dns", suffix=SUFFIX), 422, "invalid_input", "name_servers")
    serve(operator)
    for name, kind, value, field in (
        ("www", "A", "2001:db8::1", "value"),
        ("www", "A", "127.0.0.1", "value"),
        ("www", "A", "169.254.169.254", "value"),
        ("www", "AAAA", "198.51.100.3", "value"),
        ("www", "AAAA", "::1", "value"),
        ("-", "A", "198.51.100.3", "name"),
        ("@", "CNAME", "a.example", "name"),
        ("www", "TXT", 'say "no"', "value"),
    ):
        refused(write(acme, name, kind, value), 422, "invalid_input", field)
    assert write(acme, "www", "MX", "a.example").status_code == 422
    assert write(acme, "www", "A", "198.51.100.3", ttl_seconds=1).status_code == 422
    long = ".".join(["a" * 61] * 3)
    made(operator.put("/v1/public-dns", suffix="b" * 60 + ".example.net", name_servers=["ns1.example.net"]))
    assert "253" in refused(write(acme, long, "A", "198.51.100.3"), 422, "invalid_input", "name")
    serve(operator)
    made(write(acme, "www", "A", "198.51.100.3"))
    refused(write(acme, "www", "A", "198.51.100.3"), 409, "conflict", "value")
    refused(write(acme, "www", "A", "198.51.100.4", ttl_seconds=60), 409, "conflict", "ttl_seconds")
    refused(write(acme, "www", "CNAME", "a.example"), 409, "conflict", "name")
    made(write(globex, "www", "CNAME", "a.example"))
    assert len(acme.member.get(PATH).json()["items"]) == 1, "each its own"
    foreign = globex.member.get(PATH).json()["items"][0]["id"]
    assert acme.member.delete(f"{PATH}/{foreign}").status_code == 404
