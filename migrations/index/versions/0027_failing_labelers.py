"""The time since which the stream of a labeler fails."""

from __future__ import annotations

from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.execute("ALTER TABLE label_stream ADD COLUMN failing_since TIMESTAMPTZ")


def downgrade() -> None:
    op.execute("ALTER TABLE label_stream DROP COLUMN failing_since")
