"""Tables of the search engines, which can be wiped and filled again.

- search_document_N: words and filters of a record in one tsvector, the newest in 0
- search_slice: lower bound and number of records of each of these tables
- search_actor: handle, name and description of an account
- search_word: number of documents of a word or filter, and its misspelt forms
- search_engine: which indexes of an engine outside Postgres answer

The view `search_document` holds all records.

Topics of posts, for any engine:

search_topic       tags and link domains of the posts of the last hours.
search_topic_hour  distinct accounts by topic and hour, for a week.
search_trend       the topics of the moment, in order.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

metadata: Final = sa.MetaData()
SLICES: Final = 5


def _document(number: int) -> sa.Table:
    name = f"search_document_{number}"
    return sa.Table(
        name,
        metadata,
        sa.Column("rkey", sa.BigInteger, nullable=False),
        sa.Column("ts", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Integer, nullable=False),
        sa.Column("collection", sa.Integer, nullable=False),
        sa.Column("tsv", pg.TSVECTOR, nullable=False),
        sa.PrimaryKeyConstraint("actor", "collection", "rkey", name=f"{name}_pkey"),
        sa.Index(f"{name}_tsv_idx", "tsv", postgresql_using="gin"),
        sa.Index(f"{name}_key_idx", "ts", "actor", "collection", "rkey"),
    )


search_documents: Final = tuple(_document(number) for number in range(SLICES))

search_slice = sa.Table(
    "search_slice",
    metadata,
    sa.Column("slice", sa.Integer, nullable=False, autoincrement=False),
    sa.Column("documents", sa.BigInteger, nullable=False),
    # The slice holds greater keys only; null: there is no older slice yet.
    sa.Column("ts", sa.DateTime(timezone=True), nullable=True),
    sa.Column("actor", sa.Integer, nullable=True),
    sa.Column("collection", sa.Integer, nullable=True),
    sa.Column("rkey", sa.BigInteger, nullable=True),
    sa.PrimaryKeyConstraint("slice", name="search_slice_pkey"),
)

search_actor = sa.Table(
    "search_actor",
    metadata,
    sa.Column("actor", sa.Integer, nullable=False, autoincrement=False),
    sa.Column("handle", sa.Text(collation="C"), nullable=True),
    sa.Column("tsv", pg.TSVECTOR, nullable=False),
    sa.PrimaryKeyConstraint("actor", name="search_actor_pkey"),
    sa.Index("search_actor_handle_idx", "handle"),
    sa.Index("search_actor_tsv_idx", "tsv", postgresql_using="gin"),
)

search_word = sa.Table(
    "search_word",
    metadata,
    sa.Column("word", sa.Text(collation="C"), nullable=False),
    sa.Column("documents", sa.Integer, nullable=False),
    # Hashes of the word without each of its letters in turn.
    sa.Column("variants", pg.ARRAY(sa.Integer), nullable=True),
    sa.PrimaryKeyConstraint("word", name="search_word_pkey"),
    sa.Index("search_word_variants_idx", "variants", postgresql_using="gin"),
)

search_topic = sa.Table(
    "search_topic",
    metadata,
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("actor", sa.Integer, nullable=False),
    sa.Column("rkey", sa.BigInteger, nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint("topic", "actor", "rkey", name="search_topic_pkey"),
    sa.Index("search_topic_at_idx", "at"),
)

search_topic_hour = sa.Table(
    "search_topic_hour",
    metadata,
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
    sa.Column("accounts", sa.Integer, nullable=False),
    sa.PrimaryKeyConstraint("topic", "hour", name="search_topic_hour_pkey"),
    sa.Index("search_topic_hour_hour_idx", "hour"),
)

search_trend = sa.Table(
    "search_trend",
    metadata,
    sa.Column("place", sa.Integer, nullable=False, autoincrement=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("rising", sa.Boolean, nullable=False),
    sa.Column("accounts", sa.Integer, nullable=False),
    sa.Column("posts", sa.Integer, nullable=False),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("actors", pg.ARRAY(sa.Integer), nullable=False),
    sa.Column("usual", sa.REAL, nullable=False, server_default=sa.text("0")),
    sa.PrimaryKeyConstraint("place", name="search_trend_pkey"),
)

search_engine = sa.Table(
    "search_engine",
    metadata,
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("state", pg.JSONB, nullable=False),
    sa.Column("failure", sa.Text, nullable=False, server_default=""),
    sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint("name", name="search_engine_pkey"),
)
