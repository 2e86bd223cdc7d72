"""The scope of the index, and the kept collections."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from storage.schema.columns import NOW, flag, int4, int8, table, text, time

# One row. settings: the configuration that set it.
scope = table(
    "scope",
    flag("single", primary_key=True, server_default=sa.true()),
    text("kind"),
    sa.Column("seeds", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("collections", pg.ARRAY(sa.Text), nullable=False),
    int8("generation"),
    text("settings", nullable=True),
    time("changed_at"),
    # kept collections of each repo, and the last actor that was compared with them;
    # NULL: everything, and all actors
    int4("selection", nullable=True),
    int4("compared", nullable=True),
    sa.CheckConstraint("single", name="single"),
)

# Sets of collections (sorted NSIDs) that are kept of repos.
selection = table(
    "selection",
    int4("id", sa.Identity(), primary_key=True),
    sa.Column("collections", pg.ARRAY(sa.Text), nullable=False, unique=True),
)

# Accounts of the scope, unless it is the whole network.
scope_account = table(
    "scope_account",
    int8("id", sa.Identity(), primary_key=True),
    text("did", unique=True),
    # when an account without a repo is resolved next
    time("next_try", server_default=NOW, index=True),
)

# Accounts that left since `generation`; ids are drawn with those of scope_account.
scope_departure = table(
    "scope_departure",
    int8("id", primary_key=True, autoincrement=False),
    text("did"),
)
