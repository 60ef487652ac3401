"""What devices measured last.

Revision: 0030, after: 0029.
"""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE reading (
    device_id TEXT NOT NULL,
    watts INTEGER,
    celsius SMALLINT,
    read_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_reading PRIMARY KEY (device_id),
    CONSTRAINT fk_reading_device_id FOREIGN KEY(device_id) REFERENCES device (id)
)
"""


def upgrade() -> None:
    op.execute(_TABLE)


def downgrade() -> None:
    op.execute("DROP TABLE reading")
