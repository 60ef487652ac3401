"""`penstock second-factor` and `penstock identity` against a real API."""

from pathlib import Path

import pytest

from penstock.base.clock import ManualClock, to_epoch_us
from penstock.control_plane import ControlPlane
from penstock.domain import totp as codes
from penstock.store import identity as identity_store
from penstock.store.database import SYSTEM
from tests.support.command_line import CommandLine
from tests.support.tenancy import Caller

EMAIL, PASSWORD = "ada@factory.test", "correct horse battery"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(codes, "mint_secret", lambda entropy: SECRET)  # noqa: ARG005 - so that the test knows the code


def code(clock: ManualClock) -> str:
    return codes.code_at(SECRET, to_epoch_us(clock.now()) // 30_000_000)


def test_it_is_set_up_asked_for_and_taken_away(served: str, operator: Caller, clock: ManualClock) -> None:
    operator.post("/v1/users", email=EMAIL, password=PASSWORD)
    penstock = CommandLine(served)
    assert penstock("login", EMAIL, "--password-stdin", given=PASSWORD).exit_code == 0
    assert penstock.json("second-factor", "show")["active"] is False
    wrong = penstock("second-factor", "set-up", given="000000\n")
    assert "[invalid_input]" in wrong.stderr
    done = penstock("second-factor", "set-up", given=f"{code(clock)}\n")
    assert done.exit_code == 0, done.stderr
    assert SECRET in done.stderr
    assert done.stdout.count("-") >= 8, "the recovery codes are the output"
    assert penstock.json("second-factor", "show")["active"] is True

    refused = penstock("login", EMAIL, "--password-stdin", given=PASSWORD)
    assert "[second_factor_required]" in refused.stderr
    recovery = done.stdout.split()[-1]
    assert penstock("login", EMAIL, "--password-stdin", given=f"{PASSWORD}\n{recovery}\n").exit_code == 0
    assert penstock("second-factor", "remove").exit_code == 2, "asked first"
    assert penstock("second-factor", "remove", "--yes").exit_code == 0
    assert penstock("login", EMAIL, "--password-stdin", given=PASSWORD).exit_code == 0


def test_identities_are_listed_and_taken_away(
    served: str, operator: Caller, control_plane: ControlPlane
) -> None:
    user = operator.post("/v1/users", email=EMAIL, password=PASSWORD).json()["id"]
    identity_id = control_plane.context.new_id("identity")
    with control_plane.db.transaction(SYSTEM) as connection:
        assert identity_store.insert(
            connection,
            identity_id=identity_id,
            tenant_id=None,
            principal_id=user,
            issuer="https://id.test",
            subject="ada",
            managed=False,
            at=control_plane.clock.now(),
        )
    penstock = CommandLine(served)
    penstock("login", EMAIL, "--password-stdin", given=PASSWORD)
    listed = penstock.json("identity", "list")["items"]
    assert [(one["id"], one["subject"]) for one in listed] == [(identity_id, "ada")]
    assert penstock("identity", "remove", identity_id).exit_code == 2
    assert penstock("identity", "remove", identity_id, "--yes").exit_code == 0
    assert penstock.json("identity", "list")["items"] == []
    assert "[not_found]" in penstock("identity", "remove", identity_id, "--yes").stderr
