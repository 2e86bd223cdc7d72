"""Indexes for an account's lists and starter packs, and for its verifications."""

from __future__ import annotations

from alembic import op

from storage.collections import VERIFICATION_SUBJECT

revision = "0022"
down_revision = "0020"


def upgrade() -> None:
    op.execute(
        "CREATE INDEX list_time_idx"
        " ON list (actor, purpose, LEAST(created_at, indexed_at), rkey)"
    )
    op.execute(
        "CREATE INDEX starter_pack_time_idx"
        " ON starter_pack (actor, LEAST(created_at, indexed_at), rkey)"
    )
    # All verifications of a popular account are many; those of one issuer are few.
    op.execute(
        "CREATE INDEX link_default_verification_idx"
        " ON link_default (target_actor, actor, rkey)"
        f" WHERE path = {VERIFICATION_SUBJECT}"
    )


def downgrade() -> None:
    op.execute("DROP INDEX link_default_verification_idx")
    op.execute("DROP INDEX list_time_idx, starter_pack_time_idx")
