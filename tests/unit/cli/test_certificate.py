"""The commands of certificates against a real API."""

from pathlib import Path

from cryptography import x509

from penstock.control_plane import ControlPlane
from tests.support.command_line import CommandLine
from tests.support.tenancy import Tenant
from tests.support.uploads import Elsewhere, chain, new_key, pem_of


def test_certificates_are_issued_rotated_revoked_and_brought_by_commands(
    control_plane: ControlPlane, served: str, acme: Tenant, tmp_path: Path
) -> None:
    penstock = CommandLine(served, acme.member.key)
    issued = penstock.json("certificate", "issue", "www", "--host", "www.prod.internal", "--days", "7")
    assert (issued["life_days"], issued["state"]) == (7, "valid")
    assert penstock("certificate", "issue", "bad", "--host", "a b").exit_code == 3
    root = penstock("certificate", "authority").stdout
    leaf = x509.load_pem_x509_certificate(penstock("certificate", "show", "www", "--pem").stdout.encode())
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(root.encode()))
    assert penstock.json("certificate", "rotate", "www", "--revoke-old")["version"] == 2
    assert penstock.json("certificate", "revoke", "www", "--yes")["state"] == "revoked"
    crl = tmp_path / "project.crl"
    assert penstock("certificate", "crl", "--file", str(crl)).exit_code == 0
    assert len(x509.load_der_x509_crl(crl.read_bytes())) == 2
    theirs, key = Elsewhere(control_plane.clock.now()), new_key()
    files = {"chain": tmp_path / "shop.pem", "key": tmp_path / "shop.key"}
    files["chain"].write_text(chain(theirs.leaf(key)))
    files["key"].write_text(pem_of(key))
    given = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    assert penstock.json("certificate", "upload", "shop", *given)["names"] == ["shop.test"]
    assert penstock.json("certificate", "replace", "shop", *given)["version"] == 2
    gone = penstock(
        "certificate", "upload", "x", "--chain", str(tmp_path / "none"), "--key", str(files["key"])
    )
    assert (gone.exit_code, "cannot be read" in gone.stderr) == (2, True)
    assert "shop" in penstock("certificate", "list").stdout
    assert penstock("certificate", "delete", "shop", "--yes").exit_code == 0
    assert [one["name"] for one in penstock.json("certificate", "list")["items"]] == ["www"]
