"""A time for each message of a commit."""

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
    # Older blocks have no message counts, so they are dropped. Numbers continue.
    op.execute("DELETE FROM event_block; ALTER TABLE event_block DROP COLUMN span")
