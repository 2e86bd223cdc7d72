"""The state of search engines outside Postgres."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE search_engine (
            name TEXT NOT NULL,
            state JSONB NOT NULL,
            failure TEXT DEFAULT '' NOT NULL,
            failed_at TIMESTAMP WITH TIME ZONE,
            CONSTRAINT search_engine_pkey PRIMARY KEY (name)
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE search_engine")
