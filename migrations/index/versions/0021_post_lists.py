"""Indexes for quotes, for feeds of an account, and for threads of one author."""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0020"

_DROP = "DROP INDEX link_quote_target_idx"
_MAKE = """
CREATE INDEX link_quote_target_idx
    ON link_quote (target_rkey, target_actor, {last})
"""


def upgrade() -> None:
    op.execute(_DROP)
    op.execute(_MAKE.format(last="sort_at"))
    op.execute(
        """
        CREATE INDEX feed_generator_actor_created_at_idx
            ON feed_generator (actor, created_at);
        CREATE INDEX post_own_thread_idx ON post (actor, root_rkey, rkey)
            WHERE root_actor IS NOT DISTINCT FROM actor
              AND parent_actor IS NOT DISTINCT FROM actor;
        """
    )


def downgrade() -> None:
    op.execute(
        "DROP INDEX post_own_thread_idx; DROP INDEX feed_generator_actor_created_at_idx"
    )
    op.execute(_DROP)
    op.execute(_MAKE.format(last="rkey"))
