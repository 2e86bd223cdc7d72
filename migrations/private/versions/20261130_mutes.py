"""First table: the accounts that viewers mute."""

from __future__ import annotations

from alembic import op

revision = "20261130_mutes"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE mute (
        viewer text COLLATE "C" NOT NULL,
        subject text COLLATE "C" NOT NULL,
        only_reposts boolean NOT NULL,
        only_quotes boolean NOT NULL,
        muted_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (viewer, subject)
    )
    """,
    "CREATE INDEX mute_viewer_time_idx ON mute (viewer, muted_at, subject)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
