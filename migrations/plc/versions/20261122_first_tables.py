"""First tables: the operations of all DIDs."""

from __future__ import annotations

from alembic import op

revision = "20261122_first_tables"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE operation (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        did text COLLATE "C" NOT NULL,
        value bytea NOT NULL,
        nullified boolean NOT NULL DEFAULT false,
        created_ms bigint NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX operation_did_idx ON operation (did, seq)",
    "CREATE INDEX operation_created_idx ON operation (created_ms, seq)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
