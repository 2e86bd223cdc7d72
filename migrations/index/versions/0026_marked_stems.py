"""Stems of words with their language in the index of the postgres search engine.

Every account is queued to be indexed anew. Meanwhile exact words are found as before.
"""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision = "0025"

_QUEUE_ALL = (
    "INSERT INTO search_outbox (actor, collection, rkey) "
    "SELECT actor, 0, 0 FROM repo ORDER BY actor"
)


def upgrade() -> None:
    op.execute(_QUEUE_ALL)


def downgrade() -> None:
    op.execute(_QUEUE_ALL)
