"""The operation at the number up to which a directory was read."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("ALTER TABLE plc_feed ADD COLUMN cid TEXT")


def downgrade() -> None:
    op.execute("ALTER TABLE plc_feed DROP COLUMN cid")
