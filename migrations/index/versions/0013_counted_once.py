"""One counted edge for an account and a subject; the others are kept aside."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"

_COLUMNS = "rkey, target_rkey, actor, target_actor, target_collection, path, sort_at"
_TABLE = """
ALTER TABLE post_stats ADD COLUMN deletions INTEGER NOT NULL DEFAULT 0;
CREATE TABLE uncounted_link (
    rkey BIGINT NOT NULL,
    target_rkey BIGINT NOT NULL,
    actor INTEGER NOT NULL,
    target_actor INTEGER NOT NULL,
    target_collection INTEGER NOT NULL,
    path INTEGER NOT NULL,
    sort_at TIMESTAMP WITH TIME ZONE NOT NULL,
    stale BOOLEAN DEFAULT false NOT NULL
);
"""
# Paths of a like, a repost, a follow, a block and a block of a list.
_MOVE = f"""
WITH ranked AS (
    SELECT tableoid AS part, ctid AS place, row_number() OVER (
        PARTITION BY path, actor, target_actor, target_collection, target_rkey
        ORDER BY rkey) AS number
    FROM link WHERE path IN (1, 2, 3, 4, 13)
), moved AS (
    DELETE FROM link l USING ranked r
    WHERE r.number > 1 AND l.tableoid = r.part AND l.ctid = r.place
    RETURNING l.*
)
INSERT INTO uncounted_link ({_COLUMNS}) SELECT {_COLUMNS} FROM moved
"""
_INDEX = (
    "CREATE INDEX uncounted_link_subject_idx"
    " ON uncounted_link (actor, target_actor, target_rkey, rkey)"
)
_COUNT = """
UPDATE post_stats s SET likes = s.likes - m.likes, reposts = s.reposts - m.reposts
FROM (SELECT target_actor, target_rkey, count(*) FILTER (WHERE path = 1) AS likes,
        count(*) FILTER (WHERE path = 2) AS reposts
    FROM uncounted_link WHERE target_collection = 1 GROUP BY 1, 2) AS m
WHERE s.actor = m.target_actor AND s.rkey = m.target_rkey;
UPDATE subject_stats s SET likes = s.likes - m.likes
FROM (SELECT target_actor, target_collection, target_rkey, count(*) AS likes
    FROM uncounted_link WHERE path = 1 AND target_collection <> 1
    GROUP BY 1, 2, 3) AS m
WHERE s.actor = m.target_actor AND s.collection = m.target_collection
  AND s.rkey = m.target_rkey;
UPDATE actor_stats s SET followers = s.followers - m.followers
FROM (SELECT target_actor, count(*) AS followers FROM uncounted_link
    WHERE path = 3 AND target_collection = 0 GROUP BY 1) AS m
WHERE s.actor = m.target_actor;
UPDATE actor_stats s SET follows = s.follows - m.follows
FROM (SELECT actor, count(*) AS follows FROM uncounted_link
    WHERE path = 3 AND target_collection = 0 GROUP BY 1) AS m
WHERE s.actor = m.actor;
"""


def upgrade() -> None:
    op.execute(_TABLE)
    op.execute(_MOVE)
    op.execute(_INDEX)
    op.execute(_COUNT)


def downgrade() -> None:
    """Move every uncounted edge back; `rebuild counts` recounts them."""
    op.execute(f"INSERT INTO link ({_COLUMNS}) SELECT {_COLUMNS} FROM uncounted_link")
    op.execute("DROP TABLE uncounted_link")
    op.execute("ALTER TABLE post_stats DROP COLUMN deletions")
