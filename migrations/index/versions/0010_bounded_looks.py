"""Indexes for questions about a host, and for due accounts."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute(
        """
        -- Their turns spread over a day: all at once would come to one that is late.
        ALTER TABLE repo
            ADD COLUMN hidden BOOLEAN DEFAULT false NOT NULL,
            ADD COLUMN identity_at TIMESTAMP WITH TIME ZONE
                DEFAULT clock_timestamp() - random() * interval '1 day' NOT NULL;
        ALTER TABLE host
            ADD COLUMN fresh_at TIMESTAMP WITH TIME ZONE,
            ADD COLUMN usual_gap FLOAT DEFAULT 0 NOT NULL;
        ALTER TABLE actor ADD COLUMN was_here BOOLEAN DEFAULT false NOT NULL;
        ALTER TABLE repo ALTER COLUMN identity_at SET DEFAULT now();
        UPDATE repo SET hidden = true FROM actor
            WHERE actor.id = repo.actor AND upstream_status <> 'active';
        CREATE TABLE scope_departure (
            id BIGINT NOT NULL,
            did TEXT NOT NULL,
            CONSTRAINT scope_departure_pkey PRIMARY KEY (id)
        );
        CREATE INDEX repo_waiting_idx ON repo (host) WHERE state <> 'synchronized';
        CREATE INDEX repo_hidden_idx ON repo (host) WHERE hidden;
        CREATE INDEX repo_identity_at_idx ON repo (identity_at);
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DROP INDEX repo_identity_at_idx, repo_hidden_idx, repo_waiting_idx;
        DROP TABLE scope_departure;
        ALTER TABLE actor DROP COLUMN was_here;
        ALTER TABLE host DROP COLUMN fresh_at, DROP COLUMN usual_gap;
        ALTER TABLE repo DROP COLUMN hidden, DROP COLUMN identity_at;
        """
    )
