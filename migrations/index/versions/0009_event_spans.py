"""Each message of a commit has a time of its own."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE event_block ADD COLUMN span INTEGER;
        UPDATE event_block SET span = count;
        ALTER TABLE event_block ALTER COLUMN span SET NOT NULL;
        """
    )


def downgrade() -> None:
    # Lengths of frames have no messages beside them there. Numbers go on.
    op.execute("DELETE FROM event_block; ALTER TABLE event_block DROP COLUMN span")
