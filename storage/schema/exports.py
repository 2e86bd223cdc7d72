"""Exports, and the log of changes that they read."""

from __future__ import annotations

import sqlalchemy as sa

from storage.schema.columns import (
    NOW,
    ZERO,
    flag,
    int4,
    int8,
    octets,
    table,
    text,
    time,
)

# A folder that is kept up to date. seq: all changes up to it are in the folder.
export = table(
    "export",
    int4("id", sa.Identity(), primary_key=True),
    text("token", unique=True),
    int8("seq", server_default=ZERO),
    time("seen_at", server_default=NOW),
)

# Accounts whose records an export holds. seq, gone: the increments that wrote and
# removed the account.
export_account = table(
    "export_account",
    int4("export", primary_key=True, autoincrement=False),
    int4("actor", primary_key=True, autoincrement=False),
    int8("seq"),
    int8("gone", nullable=True),
    sa.Index("export_account_seq_idx", "export", "seq"),
    sa.Index(
        "export_account_gone_idx",
        "export",
        "gone",
        postgresql_where=sa.text("gone IS NOT NULL"),
    ),
)

# Addresses that changed, many in a row (storage.change_log).
change_block = table(
    "change_block",
    int8("id", sa.Identity(), primary_key=True),
    int8("last_seq", nullable=True, unique=True),
    int4("count"),
    octets("changes"),
    sa.Index(
        "change_block_unnumbered_idx",
        "id",
        postgresql_where=sa.text("last_seq IS NULL"),
    ),
)

# One row: the last number.
change_counter = table(
    "change_counter",
    flag("single", primary_key=True, server_default=sa.true()),
    int8("last_seq"),
    sa.CheckConstraint("single", name="single"),
)
