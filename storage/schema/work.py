"""Waiting work, and rebroadcast events."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

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

search_outbox = table(
    "search_outbox",
    int8("id", sa.Identity(), primary_key=True),
    int8("rkey"),
    int4("actor"),
    int4("collection"),
    # new | import | put (storage.outbox.Cause)
    text("op", server_default="put"),
)

job = table(
    "job",
    int8("id", sa.Identity(), primary_key=True),
    text("kind"),
    text("key"),
    sa.Column("payload", pg.JSONB, nullable=False, server_default=sa.text("'{}'")),
    time("not_before", server_default=NOW),
    time("lease_until", nullable=True),
    int4("tries", server_default=ZERO),
    text("error", nullable=True),
    sa.UniqueConstraint("kind", "key"),
    sa.Index("job_kind_not_before_idx", "kind", "not_before"),
)

# Lexicons of records that the code does not know.
lexicon = table(
    "lexicon",
    text("nsid", primary_key=True),
    # folder | network | unknown
    text("source"),
    # NULL while unknown
    text("document", nullable=True),
    # roles of fields (indexer.collections.field_plan)
    sa.Column("plan", pg.JSONB, nullable=True),
    # lexicons that it refers to
    sa.Column(
        "refs", pg.ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'")
    ),
    text("error", nullable=True),
    time("fetched_at", server_default=NOW),
    # position of the search documents that are made again; NULL at the end
    sa.Column("requeue", pg.JSONB, nullable=True),
    sa.Index("lexicon_refs_idx", "refs", postgresql_using="gin"),
    sa.Index(
        "lexicon_requeue_idx",
        "nsid",
        postgresql_where=sa.text("requeue IS NOT NULL"),
    ),
)

lease = table(
    "lease",
    text("name", primary_key=True),
    text("holder"),
    time("until"),
)

# Rebroadcast frames, many in a row. last_seq, time_us: number of the last event and
# time of the first, NULL until numbered. frames: storage.records.event_log.
event_block = table(
    "event_block",
    int8("id", sa.Identity(), primary_key=True),
    int8("last_seq", nullable=True, unique=True),
    int8("time_us", nullable=True, unique=True),
    int4("count"),
    int4("size"),
    octets("frames"),
    # length of its time in microseconds
    int4("span"),
    sa.Index(
        "event_block_unnumbered_idx",
        "id",
        postgresql_where=sa.text("last_seq IS NULL"),
    ),
)

# One row: the last number and time.
event_counter = table(
    "event_counter",
    flag("single", primary_key=True, server_default=sa.true()),
    int8("last_seq"),
    int8("last_time_us"),
    sa.CheckConstraint("single", name="single"),
)
