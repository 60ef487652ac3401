"""Reservations and maintenance: claims on a calendar, of which no unit may be sold twice at a time.

Revision: 0019, after: 0018. The statements are an SQL file beside this one, frozen as released.
"""

from pathlib import Path

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text = (Path(__file__).parent / "0019_reservations.sql").read_text("utf-8")
    op.get_bind().exec_driver_sql(text.replace("%", "%%"))


def downgrade() -> None:
    raise NotImplementedError("bookings would be lost; go back to a backup instead")
