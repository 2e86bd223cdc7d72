"""An index for the lists of an account."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.execute(
        """
        DROP INDEX list_item_subject_idx;
        CREATE INDEX list_item_subject_idx
            ON list_item (subject, list_actor, list_rkey);
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DROP INDEX list_item_subject_idx;
        CREATE INDEX list_item_subject_idx ON list_item (subject);
        """
    )
