"""Positions of the streams of labelers, dropped labels, and an index of takedowns."""

from __future__ import annotations

from alembic import op

revision = "0024"
down_revision = "0023"

_STATEMENTS = (
    """
    CREATE TABLE label_stream (
        src integer NOT NULL,
        seq bigint NOT NULL DEFAULT 0,
        labels bigint NOT NULL DEFAULT 0,
        newest_cts timestamptz,
        seen_at timestamptz,
        error text,
        CONSTRAINT label_stream_pkey PRIMARY KEY (src)
    )
    """,
    """
    CREATE TABLE label_drop (
        src integer NOT NULL,
        reason text NOT NULL,
        n bigint NOT NULL,
        last_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT label_drop_pkey PRIMARY KEY (src, reason)
    )
    """,
    "CREATE INDEX actor_takedown_idx ON actor (id) WHERE takedown IS NOT NULL",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE label_stream, label_drop")
    op.execute("DROP INDEX actor_takedown_idx")
