"""Tables of matches. `metadata` is what the migrations of the index must equal."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

metadata: Final = sa.MetaData()

# Matches of saved searches, which are in the private database. Kept for a while.
search_match = sa.Table(
    "search_match",
    metadata,
    sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
    sa.Column("search", sa.BigInteger, nullable=False),
    sa.Column("rkey", sa.BigInteger, nullable=False),
    sa.Column("matched_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("actor", sa.Integer, nullable=False),
    sa.Column("collection", sa.Integer, nullable=False),
    sa.PrimaryKeyConstraint("number", name="search_match_pkey"),
    sa.Index("search_match_search_idx", "search", "number"),
)

# One row: the last number.
search_match_counter = sa.Table(
    "search_match_counter",
    metadata,
    sa.Column("single", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("single", name="search_match_counter_pkey"),
    sa.CheckConstraint("single", name="search_match_counter_single_check"),
)
