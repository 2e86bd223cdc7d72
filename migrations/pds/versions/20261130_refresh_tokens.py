"""Refresh tokens as rows: a used one returns the same successor for a grace time."""

from __future__ import annotations

from alembic import op

revision = "20261130_refresh_tokens"
down_revision = "20261122_first_tables"

_STATEMENTS = (
    """
    CREATE TABLE refresh_token (
        id text PRIMARY KEY,
        session text NOT NULL REFERENCES session (id) ON DELETE CASCADE,
        next_id text,
        expires_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX refresh_token_session ON refresh_token (session)",
    """
    INSERT INTO refresh_token (id, session, expires_at)
    SELECT refresh_id, id, expires_at FROM session WHERE revoked_at IS NULL
    """,
    "ALTER TABLE session DROP COLUMN refresh_id",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
