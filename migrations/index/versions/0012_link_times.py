"""Sort times of edges, in place of times in record keys, which authors choose."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"

# Old edges get the time of their TID, never a future one. A change of type writes each
# partition once; an UPDATE would double its size.
_ADD = """
ALTER TABLE link ADD COLUMN sort_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now();
ALTER TABLE link ALTER COLUMN sort_at DROP DEFAULT;
ALTER TABLE link ALTER COLUMN sort_at TYPE TIMESTAMP WITH TIME ZONE USING CASE
    WHEN rkey > 0 THEN least(now(), to_timestamp((rkey >> 10) / 1000000)
        + ((rkey >> 10) % 1000000) * interval '1 microsecond')
    ELSE now() END;
"""


def upgrade() -> None:
    op.execute("DROP INDEX link_repost_source_idx; DROP INDEX link_follow_target_idx")
    op.execute(_ADD)
    op.execute("CREATE INDEX link_repost_source_idx ON link_repost (actor, sort_at)")
    op.execute(
        "CREATE INDEX link_follow_target_idx ON link_follow (target_actor, sort_at)"
    )


def downgrade() -> None:
    op.execute("DROP INDEX link_repost_source_idx; DROP INDEX link_follow_target_idx")
    op.execute("ALTER TABLE link DROP COLUMN sort_at")
    op.execute("CREATE INDEX link_repost_source_idx ON link_repost (actor, rkey)")
    op.execute(
        "CREATE INDEX link_follow_target_idx ON link_follow (target_actor, rkey)"
    )
