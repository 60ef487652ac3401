"""Certificates over the API: issued, brought, rotated in time, replaced, revoked; keys are never seen again."""

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from prometheus_client import REGISTRY

from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.domain.certificate import key_purpose
from penstock.store import certificate as certificate_store
from penstock.store.database import SYSTEM
from tests.contract.test_api_floating_address import refused
from tests.support.networks import made, make_certificate
from tests.support.tenancy import Caller, Tenant
from tests.support.uploads import Elsewhere, chain, new_key, pem_of

DAY = timedelta(days=1)


def leaf_of(document: dict[str, Any]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(document["chain_pem"].encode())


def root_of(tenant: Tenant) -> x509.Certificate:
    found = made(tenant.member.get(f"/v1/projects/{tenant.project_id}/certificate-authority"))
    assert "key" not in " ".join(found)
    return x509.load_pem_x509_certificate(found["certificate_pem"].encode())


def revoked_serials(tenant: Tenant) -> set[str]:
    answer = tenant.member.get(f"/v1/projects/{tenant.project_id}/certificate-authority/crl")
    assert answer.headers["content-type"] == "application/pkix-crl"
    found = x509.load_der_x509_crl(answer.content)
    assert found.is_signature_valid(root_of(tenant).public_key())  # pyright: ignore[reportArgumentType] - it is an EC key
    return {f"{one.serial_number:x}" for one in found}


def kinds(tenant: Tenant, certificate_id: str) -> list[str]:
    events = tenant.member.get("/v1/events", limit=200).json()["items"]
    return [one["kind"] for one in events if one["subject_id"] == certificate_id]


def brought(plane: ControlPlane, **days: Any) -> dict[str, str]:
    """Return chain and key of a certificate of another authority, as fields of a body."""
    theirs, key = Elsewhere(plane.clock.now()), new_key()
    leaf = theirs.leaf(key, **days)
    return {"certificate_pem": chain(leaf, theirs.lower), "private_key_pem": pem_of(key)}


def test_one_is_issued_by_an_authority_of_the_project_alone(
    control_plane: ControlPlane, acme: Tenant, globex: Tenant
) -> None:
    path = f"/v1/projects/{acme.project_id}/certificate-authority"
    refused(acme.member.get(path), 404, "not_found")
    body = {"project_id": acme.project_id, "name": "www", "names": ["WWW.prod.internal", "10.0.0.9"]}
    one = made(acme.member.post("/v1/certificates", **body))
    assert (one["source"], one["state"], one["version"], one["life_days"]) == ("issued", "valid", 1, 30)
    assert one["names"] == ["www.prod.internal", "10.0.0.9"]
    assert [name for name in one if "key" in name] == ["key_kind"], "nothing of the private key leaves"
    assert "PRIVATE" not in str(one)
    leaf_of(one).verify_directly_issued_by(root_of(acme))
    theirs = made(globex.member.post("/v1/certificates", **{**body, "project_id": globex.project_id}))
    with pytest.raises(ValueError, match="Issuer"):
        leaf_of(theirs).verify_directly_issued_by(root_of(acme))
    with control_plane.db.transaction(SYSTEM) as connection:
        sealed = certificate_store.sealed_key(connection, one["id"]) or ""
        authority = certificate_store.authority(connection, acme.project_id) or {}
    assert "PRIVATE" not in f"{sealed}{authority['sealed_key']}"
    assert "PRIVATE" in control_plane.context.vault.open(sealed, key_purpose(one["id"]))
    again = acme.member.post("/v1/certificates", **body)
    refused(again, 409, "conflict", "name")
    assert [row["id"] for row in acme.member.get("/v1/certificates", name="www").json()["items"]] == [
        one["id"]
    ]
    assert made(acme.auditor.get(f"/v1/certificates/{one['id']}")) == one
    refused(acme.auditor.post(f"/v1/certificates/{one['id']}/revoke"), 403, "forbidden")
    refused(globex.member.get(path), 404, "not_found")


def test_what_is_wrong_is_named(control_plane: ControlPlane, acme: Tenant) -> None:
    def ask(**more: Any) -> Any:
        return acme.member.post("/v1/certificates", name="x", project_id=acme.project_id, **more)

    good = brought(control_plane)
    bodies: list[tuple[dict[str, Any], str]] = [
        ({}, "names"),
        ({"names": []}, "names"),
        ({"names": ["a b"]}, "names.0"),
        ({"names": ["a.test"], "life_days": 91}, "life_days"),
        ({"names": ["a.test"], "certificate_pem": "x"}, "certificate_pem"),
        ({"certificate_pem": good["certificate_pem"]}, "private_key_pem"),
        ({**good, "life_days": 3}, "life_days"),
        ({**good, "private_key_pem": pem_of(new_key())}, "private_key_pem"),
        ({**good, "private_key_pem": "x" * 4_097}, "private_key_pem"),
        ({**good, "certificate_pem": "x" * 65_537}, "certificate_pem"),
        (brought(control_plane, days=(-9, -1)), "certificate_pem"),
    ]
    for body, field in bodies:
        sentence = refused(ask(**body), 422, "invalid_input", field)
        assert good["private_key_pem"][40:80] not in sentence
    assert acme.member.get("/v1/certificates").json()["items"] == []


def test_two_thirds_into_its_life_it_is_rotated_by_itself(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant
) -> None:
    certificate_id = make_certificate(acme, "www", "www.prod.internal", life_days=3)
    path = f"/v1/certificates/{certificate_id}"
    first = made(acme.member.get(path))
    clock.advance(2 * DAY - timedelta(minutes=1))
    assert control_plane.certificates.tick() == 0
    clock.advance(timedelta(minutes=1))
    assert made(acme.member.get(path))["state"] == "expiring"
    assert control_plane.certificates.tick() == 1
    second = made(acme.member.get(path))
    assert (second["state"], second["version"]) == ("valid", 2)
    assert second["fingerprint_sha256"] != first["fingerprint_sha256"]
    assert leaf_of(second).public_key() != leaf_of(first).public_key()
    leaf_of(second).verify_directly_issued_by(root_of(acme))
    assert control_plane.certificates.tick() == 0
    assert revoked_serials(acme) == set(), "what it had holds until it ends"
    assert kinds(acme, certificate_id) == ["certificate.created", "certificate.rotated"]
    labels = {"source": "issued", "days_left": "under_7"}
    assert REGISTRY.get_sample_value("penstock_certificates", labels) == 1


def test_a_key_that_got_out_is_revoked_and_followed_at_once(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant
) -> None:
    certificate_id = make_certificate(acme, "www", "www.prod.internal")
    path = f"/v1/certificates/{certificate_id}"
    first = made(acme.member.get(path))
    second = made(acme.member.post(f"{path}/rotate", revoke_old=True))
    assert revoked_serials(acme) == {first["serial"]}
    third = made(acme.member.post(f"{path}/rotate"))
    assert third["version"] == 3
    ended = made(acme.member.post(f"{path}/revoke"))
    assert (ended["state"], ended["rotate_at"]) == ("revoked", None)
    assert made(acme.member.post(f"{path}/revoke")) == ended, "said twice, it is the same"
    assert revoked_serials(acme) == {first["serial"], second["serial"], third["serial"]}
    refused(acme.member.post(f"{path}/rotate"), 409, "conflict")
    other = make_certificate(acme, "api", "api.prod.internal")
    serial = made(acme.member.get(f"/v1/certificates/{other}"))["serial"]
    assert acme.member.delete(f"/v1/certificates/{other}").status_code == 204
    assert serial in revoked_serials(acme), "what is deleted counts no more"
    clock.advance(31 * DAY)
    control_plane.certificates.tick()
    assert revoked_serials(acme) == set(), "what has expired need not be listed"
    assert made(acme.member.get(path))["version"] == 3, "a revoked one is not rotated"


def test_one_that_was_brought_is_replaced_and_its_owner_is_warned_once(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant
) -> None:
    body = {"name": "shop", "project_id": acme.project_id, **brought(control_plane)}
    one = made(acme.member.post("/v1/certificates", **body))
    path = f"/v1/certificates/{one['id']}"
    assert (one["source"], one["names"], one["rotate_at"]) == ("uploaded", ["shop.test"], None)
    for verb in ("rotate", "revoke"):
        refused(acme.member.post(f"{path}/{verb}"), 409, "conflict")
    clock.advance(50 * DAY)
    assert [control_plane.certificates.tick() for _ in range(2)] == [1, 0]
    assert kinds(acme, one["id"])[-1] == "certificate.expiring"
    issued = make_certificate(acme, "www", "www.prod.internal")
    new = brought(control_plane)
    refused(acme.member.put(f"/v1/certificates/{issued}/content", **new), 409, "conflict")
    bad = {**new, "private_key_pem": pem_of(new_key())}
    refused(acme.member.put(f"{path}/content", **bad), 422, "invalid_input", "private_key_pem")
    assert made(acme.member.get(path))["serial"] == one["serial"], "what is refused changes nothing"
    second = made(acme.member.put(f"{path}/content", **new))
    assert (second["version"], second["serial"] != one["serial"]) == (2, True)
    clock.advance(61 * DAY)
    assert made(acme.member.get(path))["state"] == "expired"
    assert acme.member.delete(path).status_code == 204


def test_a_damaged_key_of_the_authority_stops_no_other_rotation(
    control_plane: ControlPlane, clock: ManualClock, acme: Tenant, globex: Tenant
) -> None:
    broken = make_certificate(acme, "www", "www.prod.internal")
    whole = make_certificate(globex, "www", "www.prod.internal")
    with control_plane.db.transaction(SYSTEM) as connection:
        connection.exec_driver_sql(
            "UPDATE certificate_authority SET sealed_key = 'v1.spoilt' WHERE project_id = %s",
            (acme.project_id,),
        )
    clock.advance(20 * DAY)
    assert control_plane.certificates.tick() == 2
    assert kinds(acme, broken)[-1] == "certificate.rotation_failed"
    assert made(globex.member.get(f"/v1/certificates/{whole}"))["version"] == 2
    assert made(acme.member.get(f"/v1/certificates/{broken}"))["version"] == 1
    assert control_plane.certificates.tick() == 0, "it is tried again in an hour"
    refused(acme.member.post(f"/v1/certificates/{broken}/rotate"), 503, "unavailable")
    crl = acme.member.get(f"/v1/projects/{acme.project_id}/certificate-authority/crl")
    refused(crl, 503, "unavailable")


def test_a_project_has_so_many_and_no_more(
    acme: Tenant, operator: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.base.limits.CERTIFICATES_PER_PROJECT_MAX", 1)
    make_certificate(acme, "www", "www.prod.internal")
    more = {"name": "api", "project_id": acme.project_id, "names": ["api.prod.internal"]}
    refused(acme.member.post("/v1/certificates", **more), 409, "conflict")
    assert len(operator.get("/v1/certificates").json()["items"]) == 1
