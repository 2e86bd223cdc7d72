"""Tables of feeds. `metadata` is what the migrations of the index must equal."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

metadata: Final = sa.MetaData()

# Records that match the stored sources of a recipe. feed: a hash of these sources, so
# that a recipe with another title keeps its candidates. sources: one bit each.
feed_candidate = sa.Table(
    "feed_candidate",
    metadata,
    sa.Column("feed", sa.BigInteger, nullable=False),
    sa.Column("sort_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("rkey", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Integer, nullable=False),
    sa.Column("collection", sa.Integer, nullable=False),
    sa.Column("sources", sa.Integer, nullable=False),
    sa.PrimaryKeyConstraint(
        "feed", "sort_at", "actor", "collection", "rkey", name="feed_candidate_pkey"
    ),
    sa.Index("feed_candidate_record_idx", "actor", "collection", "rkey"),
)

# The filling of candidates from the index, newest first: source and keyset under way,
# and the time of the oldest record that was read.
feed_fill = sa.Table(
    "feed_fill",
    metadata,
    sa.Column("feed", sa.BigInteger, nullable=False, autoincrement=False),
    sa.Column("source", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("after", pg.JSONB, nullable=True),
    sa.Column("found", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("reached", sa.DateTime(timezone=True), nullable=True),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
    sa.Column("error", sa.Text, nullable=True),
    sa.PrimaryKeyConstraint("feed", name="feed_fill_pkey"),
)
