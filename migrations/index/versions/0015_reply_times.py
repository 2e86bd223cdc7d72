"""An index for the newest replies of a post."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"

_DROP = "DROP INDEX link_reply_parent_target_idx"
_MAKE = """
CREATE INDEX link_reply_parent_target_idx
    ON link_reply_parent (target_rkey, target_actor, {last})
"""


def upgrade() -> None:
    op.execute(_DROP)
    op.execute(_MAKE.format(last="sort_at"))


def downgrade() -> None:
    op.execute(_DROP)
    op.execute(_MAKE.format(last="rkey"))
