"""Matches of saved searches."""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"

_STATEMENTS = (
    """
    CREATE TABLE search_match (
        number bigint NOT NULL,
        search bigint NOT NULL,
        rkey bigint NOT NULL,
        matched_at timestamptz NOT NULL,
        actor integer NOT NULL,
        collection integer NOT NULL,
        CONSTRAINT search_match_pkey PRIMARY KEY (number)
    )
    """,
    "CREATE INDEX search_match_search_idx ON search_match (search, number)",
    """
    CREATE TABLE search_match_counter (
        single boolean NOT NULL DEFAULT true,
        last bigint NOT NULL,
        CONSTRAINT search_match_counter_pkey PRIMARY KEY (single),
        CONSTRAINT search_match_counter_single_check CHECK (single)
    )
    """,
    "INSERT INTO search_match_counter (last) VALUES (0)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE search_match, search_match_counter")
