"""Counts of list members; indexes for lists, starter packs and verifications."""

from __future__ import annotations

from alembic import op

from storage.collections import COLLECTION_IDS, GRAPH_LIST, VERIFICATION_SUBJECT

revision = "0022"
down_revision = "0021"


_COUNT = f"""
ALTER TABLE subject_stats ADD COLUMN items INTEGER NOT NULL DEFAULT 0;
INSERT INTO subject_stats (actor, collection, rkey, items)
SELECT list_actor, {COLLECTION_IDS[GRAPH_LIST]}, list_rkey, count(*)
FROM list_item WHERE actor = list_actor GROUP BY list_actor, list_rkey
ON CONFLICT (actor, collection, rkey) DO UPDATE SET items = excluded.items;
"""


def upgrade() -> None:
    op.execute(_COUNT)
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
    op.execute("ALTER TABLE subject_stats DROP COLUMN items")
    op.execute("DROP INDEX link_default_verification_idx")
    op.execute("DROP INDEX list_time_idx, starter_pack_time_idx")
