"""What is asked of a host, and whose turn it is, is found in an index."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE repo ADD COLUMN hidden BOOLEAN DEFAULT false NOT NULL;
        UPDATE repo SET hidden = true FROM actor
            WHERE actor.id = repo.actor AND upstream_status <> 'active';
        CREATE INDEX repo_waiting_idx ON repo (host) WHERE state <> 'synchronized';
        CREATE INDEX repo_hidden_idx ON repo (host) WHERE hidden;
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DROP INDEX repo_hidden_idx, repo_waiting_idx;
        ALTER TABLE repo DROP COLUMN hidden;
        """
    )
