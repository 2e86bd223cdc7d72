"""Likes by time, in a few bytes for each range of pages."""

from __future__ import annotations

from alembic import op

revision = "0029"
down_revision = "0028"

# Likes are appended in about the order of their times. A tree would be as large as the
# index by target; this one costs nothing at each like.
_INDEX = """
CREATE INDEX link_like_time_idx ON link_like USING brin (sort_at)
    WITH (pages_per_range = 32, autosummarize = on)
"""


def upgrade() -> None:
    op.execute(_INDEX)


def downgrade() -> None:
    op.execute("DROP INDEX link_like_time_idx")
