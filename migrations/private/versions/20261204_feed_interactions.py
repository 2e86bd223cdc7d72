"""Statistics of feeds by hour. Nothing in them names a reader."""

from __future__ import annotations

from alembic import op

revision = "20261204_feed_interactions"
down_revision = "20261203_feed_recipes"

_STATEMENTS = (
    """
    CREATE TABLE feed_hour (
        feed text NOT NULL,
        hour timestamptz NOT NULL,
        pages bigint NOT NULL DEFAULT 0,
        empty_pages bigint NOT NULL DEFAULT 0,
        latency bigint[] NOT NULL DEFAULT '{}',
        events bigint[] NOT NULL DEFAULT '{}',
        readers bytea NOT NULL DEFAULT '',
        CONSTRAINT feed_hour_pkey PRIMARY KEY (feed, hour)
    )
    """,
    "CREATE INDEX feed_hour_hour_idx ON feed_hour (hour)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
