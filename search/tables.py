"""Tables of the search engines, which can be wiped and filled again.

search_document  words and filters of a record with text, in one tsvector
search_actor     handle, name and description of an account
search_word      known words and their trigrams, for spelling correction
search_engine    which indexes of an engine outside Postgres answer

Topics of posts, for any engine:

search_topic       tags and link domains of the posts of the last hours
search_topic_hour  distinct accounts by topic and hour, for a week
search_trend       the topics of the moment, in order
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

metadata: Final = sa.MetaData()

search_document = sa.Table(
    "search_document",
    metadata,
    sa.Column("rkey", sa.BigInteger, nullable=False),
    sa.Column("ts", sa.DateTime(timezone=True), nullable=False),
    sa.Column("actor", sa.Integer, nullable=False),
    sa.Column("collection", sa.Integer, nullable=False),
    sa.Column("tsv", pg.TSVECTOR, nullable=False),
    sa.PrimaryKeyConstraint("actor", "collection", "rkey", name="search_document_pkey"),
    sa.Index("search_document_tsv_idx", "tsv", postgresql_using="gin"),
    sa.Index("search_document_collection_ts_idx", "collection", "ts"),
    sa.Index("search_document_actor_ts_idx", "actor", "ts"),
)

search_actor = sa.Table(
    "search_actor",
    metadata,
    sa.Column("actor", sa.Integer, nullable=False, autoincrement=False),
    sa.Column("handle", sa.Text, nullable=True),
    sa.Column("tsv", pg.TSVECTOR, nullable=False),
    sa.PrimaryKeyConstraint("actor", name="search_actor_pkey"),
    sa.Index("search_actor_tsv_idx", "tsv", postgresql_using="gin"),
)

search_word = sa.Table(
    "search_word",
    metadata,
    sa.Column("word", sa.Text, nullable=False),
    sa.Column("documents", sa.Integer, nullable=False),
    sa.Column("trigrams", pg.ARRAY(sa.Text), nullable=False),
    sa.PrimaryKeyConstraint("word", name="search_word_pkey"),
    sa.Index("search_word_trigrams_idx", "trigrams", postgresql_using="gin"),
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
