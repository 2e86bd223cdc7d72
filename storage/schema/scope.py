"""What is to be indexed, and what is kept of it."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from storage.schema.columns import NOW, flag, int4, int8, metadata, text, time

# One row: what is to be indexed. settings: the configuration it was taken from.
scope = sa.Table(
    "scope",
    metadata,
    flag("single", primary_key=True, server_default=sa.true()),
    text("kind"),
    sa.Column("seeds", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("collections", pg.ARRAY(sa.Text), nullable=False),
    int8("generation"),
    text("settings", nullable=True),
    time("changed_at"),
    # what is to be kept of each repo, and the last actor whose repo was held against
    # it; NULL: everything, and all of them
    int4("selection", nullable=True),
    int4("compared", nullable=True),
    sa.CheckConstraint("single", name="single"),
)

# Sets of collections (NSIDs, sorted): what repos are kept of.
selection = sa.Table(
    "selection",
    metadata,
    int4("id", sa.Identity(), primary_key=True),
    sa.Column("collections", pg.ARRAY(sa.Text), nullable=False, unique=True),
)

# Its accounts, where it is not the whole network.
scope_account = sa.Table(
    "scope_account",
    metadata,
    int8("id", sa.Identity(), primary_key=True),
    text("did", unique=True),
    # when an account that has no repo here is to be looked up
    time("next_try", server_default=NOW, index=True),
)

# Who left it since `generation`; ids are drawn with those of scope_account.
scope_departure = sa.Table(
    "scope_departure",
    metadata,
    int8("id", primary_key=True, autoincrement=False),
    text("did"),
)
