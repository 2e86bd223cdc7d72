"""Candidates of feeds, and the state of their filling."""

from __future__ import annotations

from alembic import op

revision = "0028"
down_revision = "0027"

_STATEMENTS = (
    """
    CREATE TABLE feed_candidate (
        feed bigint NOT NULL,
        sort_at timestamptz NOT NULL,
        rkey bigint NOT NULL,
        actor integer NOT NULL,
        collection integer NOT NULL,
        sources integer NOT NULL,
        CONSTRAINT feed_candidate_pkey
            PRIMARY KEY (feed, sort_at, actor, collection, rkey)
    )
    """,
    """
    CREATE INDEX feed_candidate_record_idx ON feed_candidate (actor, collection, rkey)
    """,
    """
    CREATE TABLE feed_fill (
        feed bigint NOT NULL,
        source integer NOT NULL DEFAULT 0,
        after jsonb,
        found bigint NOT NULL DEFAULT 0,
        reached timestamptz,
        started_at timestamptz NOT NULL,
        done_at timestamptz,
        error text,
        CONSTRAINT feed_fill_pkey PRIMARY KEY (feed)
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE feed_candidate, feed_fill")
