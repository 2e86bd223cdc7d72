"""Names and their ids."""

from __future__ import annotations

import sqlalchemy as sa

from storage.collections import FIRST_FREE_ID
from storage.schema.columns import NOW, flag, int4, int8, one_of, table, text, time
from storage.states import STATUS_ACTIVE, UPSTREAM_STATUSES

actor = table(
    "actor",
    int4("id", sa.Identity(), primary_key=True),
    text("did", unique=True),
    # verified both ways, lower case; NULL while unknown or when the check failed
    text("handle", nullable=True, index=True),
    time("handle_checked_at", nullable=True),
    # status reported by the host, and our own takedown, never mixed; the takedown is a
    # copy of the private database's
    text("upstream_status", server_default=STATUS_ACTIVE),
    text("takedown", nullable=True),
    time("indexed_at", server_default=NOW),
    # admitted once and left with the scope: not a new account on its return
    flag("was_here", server_default=sa.false()),
    one_of("upstream_status", UPSTREAM_STATUSES),
    sa.Index(
        "actor_takedown_idx", "id", postgresql_where=sa.text("takedown IS NOT NULL")
    ),
)

collection = table(
    "collection",
    int4("id", sa.Identity(start=FIRST_FREE_ID), primary_key=True),
    text("nsid", unique=True),
)

rkey = table(
    "rkey",
    int8(
        "id",
        sa.Identity(start=-FIRST_FREE_ID, increment=-1, minvalue=-(2**63)),
        primary_key=True,
    ),
    text("text", unique=True),
)

path = table(
    "path",
    int4("id", sa.Identity(start=FIRST_FREE_ID), primary_key=True),
    int4("collection"),
    text("path"),
    sa.UniqueConstraint("collection", "path"),
)
