"""Second factors at rest: sealed in the database, opened for their owner alone, old rows sealed at the next start."""

import base64
import os
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from penstock.actions import totp as totp_actions
from penstock.base.clock import ManualClock, to_epoch_us
from penstock.control_plane import ControlPlane
from penstock.domain import totp as codes
from penstock.domain.role import Role
from penstock.drivers.pki.vault import KEY_BYTES
from penstock.store.database import SYSTEM
from penstock.store.schema import totp
from tests.support.tenancy import make_caller, make_tenant

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def stored(plane: ControlPlane) -> dict[str, str]:
    with plane.db.transaction(SYSTEM) as connection:
        rows = connection.execute(sa.select(totp.c.principal_id, totp.c.secret)).all()
    return {row.principal_id: row.secret for row in rows}


def enrol(plane: ControlPlane, *, name: str) -> str:
    """Write a confirmed second factor and return whose it is."""
    tenant = make_tenant(plane, None, name)
    user = make_caller(plane, None, f"{name}@x.test", Role.MEMBER, tenant_id=tenant.id, kind="user")
    with plane.db.transaction(SYSTEM) as connection:
        connection.execute(
            sa.insert(totp).values(
                principal_id=user.principal_id,
                tenant_id=tenant.id,
                secret=plane.context.vault.seal(SECRET, f"totp {user.principal_id}"),
                recovery_sha256=[],
                confirmed_at=plane.clock.now(),
                created_at=plane.clock.now(),
            )
        )
    return user.principal_id


def write_in_clear(database_url: str, user_id: str) -> None:
    """Make a row what it was before the vault, as the owner of the table."""
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE totp DROP CONSTRAINT ck_totp_sealed"))
        connection.execute(sa.update(totp).where(totp.c.principal_id == user_id).values(secret=SECRET))
        connection.execute(
            sa.text(
                "ALTER TABLE totp ADD CONSTRAINT ck_totp_sealed CHECK (left(secret, 3) = 'v1.') NOT VALID"
            )
        )
    engine.dispose()


def opens(plane: ControlPlane, user_id: str) -> bool:
    code = codes.code_at(SECRET, to_epoch_us(plane.clock.now()) // 30_000_000)
    with plane.db.transaction(SYSTEM) as connection:
        return totp_actions.accepts(plane.context, connection, user_id, code)


def test_rows_in_clear_are_sealed_at_the_next_start_and_still_open(
    control_plane: ControlPlane, database_url: str, tmp_path: Path
) -> None:
    old = enrol(control_plane, name="old")
    write_in_clear(database_url, old)
    assert stored(control_plane)[old] == SECRET
    control_plane.seal_with(tmp_path / "secrets.key")
    assert SECRET not in stored(control_plane)[old]
    assert stored(control_plane)[old].startswith("v1.")
    assert opens(control_plane, old)
    assert totp_actions.seal_stored(control_plane.context) == 0, "nothing is left to do"


def test_a_new_key_seals_everything_anew(control_plane: ControlPlane, tmp_path: Path) -> None:
    path = tmp_path / "secrets.key"
    control_plane.seal_with(path)
    user = enrol(control_plane, name="one")
    before = stored(control_plane)[user]
    path.write_text(f"{base64.b64encode(os.urandom(KEY_BYTES)).decode()}\n{path.read_text()}")
    control_plane.seal_with(path)
    assert stored(control_plane)[user].split(".")[1] != before.split(".")[1]
    path.write_text(path.read_text().split()[0])
    control_plane.seal_with(path)
    assert opens(control_plane, user)


def test_the_database_refuses_a_secret_in_clear(control_plane: ControlPlane) -> None:
    user = enrol(control_plane, name="one")
    with (
        pytest.raises(IntegrityError, match="ck_totp_sealed"),
        control_plane.db.transaction(SYSTEM) as connection,
    ):
        connection.execute(sa.update(totp).where(totp.c.principal_id == user).values(secret=SECRET))


def test_one_users_row_copied_over_anothers_opens_nothing(
    control_plane: ControlPlane, clock: ManualClock
) -> None:
    del clock
    mine, theirs = (enrol(control_plane, name=name) for name in ("mine", "theirs"))
    with control_plane.db.transaction(SYSTEM) as connection:
        connection.execute(
            sa.update(totp).where(totp.c.principal_id == theirs).values(secret=stored(control_plane)[mine])
        )
    with pytest.raises(ValueError, match="something else"):
        opens(control_plane, theirs)
