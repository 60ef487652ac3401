"""Images that are fetched from an address, and images for chosen projects.

Revision: 0033, after: 0032.
"""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

_COLUMNS = """
ALTER TABLE image
    ADD COLUMN shared_with TEXT[] DEFAULT '{}'::text[] NOT NULL,
    ADD COLUMN source_url TEXT,
    ADD COLUMN etag TEXT,
    ADD COLUMN received_bytes BIGINT DEFAULT 0 NOT NULL,
    ADD COLUMN total_bytes BIGINT,
    ADD COLUMN attempts INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN due_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN lease_token TEXT,
    ADD COLUMN leased_until TIMESTAMP WITH TIME ZONE;
CREATE INDEX ix_image_due ON image (due_at) WHERE due_at IS NOT NULL
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_COLUMNS)


def downgrade() -> None:
    raise NotImplementedError("with whom images are shared would be lost; go back to a backup instead")
