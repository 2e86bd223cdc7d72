"""Repos by collection, for listReposByCollection."""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0024"

# Fixed here: a later version of the code may choose others.
_COMMON = "1, 2, 3, 7, 8, 14"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE collection_repo (
            actor INTEGER NOT NULL,
            collection INTEGER NOT NULL,
            CONSTRAINT collection_repo_pkey PRIMARY KEY (actor, collection)
        )
        """
    )
    # As many index probes as there are pairs.
    op.execute(
        f"""
        INSERT INTO collection_repo (actor, collection)
        SELECT repo.actor, used.id FROM repo CROSS JOIN LATERAL (
            WITH RECURSIVE step AS (
                SELECT (SELECT min(collection) FROM record
                        WHERE record.actor = repo.actor) AS id
                UNION ALL
                SELECT (SELECT min(collection) FROM record
                        WHERE record.actor = repo.actor AND collection > step.id)
                FROM step WHERE step.id IS NOT NULL
            )
            SELECT id FROM step WHERE id NOT IN ({_COMMON})
        ) used
        """
    )
    op.execute(
        "CREATE INDEX collection_repo_collection_actor_idx"
        " ON collection_repo (collection, actor)"
    )


def downgrade() -> None:
    op.execute("DROP TABLE collection_repo")
