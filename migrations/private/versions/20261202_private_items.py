"""Encrypted items of accounts: mutes, bookmarks, drafts and settings."""

from __future__ import annotations

from alembic import op

revision = "20261202_private_items"
down_revision = "20261201_moderation"

_STATEMENTS = (
    """
    CREATE TABLE private_item (
        account bytea NOT NULL,
        kind smallint NOT NULL,
        subject bigint NOT NULL,
        flags smallint NOT NULL,
        at timestamptz NOT NULL,
        sealed bytea NOT NULL,
        CONSTRAINT private_item_pkey PRIMARY KEY (account, kind, subject)
    )
    """,
    # Already compressed as far as it can be: encrypted bytes are not repetitive.
    "ALTER TABLE private_item ALTER COLUMN sealed SET STORAGE EXTERNAL",
    "CREATE INDEX private_item_time_idx ON private_item (account, kind, at, subject)",
    "CREATE INDEX private_item_push_idx ON private_item (at) WHERE kind = 11",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
