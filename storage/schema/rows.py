"""Rows derived from records: edges, rows by collection, labels."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from storage.schema.columns import ZERO, flag, int4, int8, octets, table, text, time

# Columns are ordered for alignment: 40 bytes without padding. Partitions and indexes
# are in the migrations. target_collection 0 and target_rkey 0: an account.
# sort_at = the earlier of the record's createdAt and the time it was indexed.
link = table(
    "link",
    int8("rkey"),
    int8("target_rkey"),
    int4("actor"),
    int4("target_actor"),
    int4("target_collection"),
    int4("path"),
    time("sort_at"),
    postgresql_partition_by="LIST (path)",
)

# Edges that do not count (storage.records.uncounted_links).
uncounted_link = table(
    "uncounted_link",
    int8("rkey"),
    int8("target_rkey"),
    int4("actor"),
    int4("target_actor"),
    int4("target_collection"),
    int4("path"),
    time("sort_at"),
    flag("stale", server_default=sa.false()),
    sa.Index(
        "uncounted_link_subject_idx", "actor", "target_actor", "target_rkey", "rkey"
    ),
)

# sort_at = the earlier of created_at (the author's claim) and indexed_at.
post = table(
    "post",
    int8("rkey"),
    time("sort_at"),
    time("created_at"),
    time("indexed_at"),
    int8("parent_rkey", nullable=True),
    int8("root_rkey", nullable=True),
    int4("actor"),
    int4("parent_actor", nullable=True),
    int4("root_actor", nullable=True),
    # bits of indexer.collections.post.Media
    sa.Column("media", sa.SmallInteger, nullable=False, server_default=ZERO),
    sa.Column("langs", pg.ARRAY(sa.Text), nullable=True),
    sa.PrimaryKeyConstraint("actor", "rkey"),
    sa.Index("post_actor_sort_at_idx", "actor", "sort_at"),
    sa.Index("post_sort_at_idx", "sort_at"),
)

profile = table(
    "profile",
    int4("actor", primary_key=True, autoincrement=False),
    text("display_name", nullable=True),
    text("description", nullable=True),
    octets("avatar", nullable=True),
    octets("banner", nullable=True),
    time("created_at", nullable=True),
    time("indexed_at"),
)

feed_generator = table(
    "feed_generator",
    int4("actor", primary_key=True, autoincrement=False),
    int8("rkey", primary_key=True, autoincrement=False),
    text("service_did"),
    text("display_name"),
    text("description", nullable=True),
    octets("avatar", nullable=True),
    time("created_at"),
    time("indexed_at"),
)

list_ = table(
    "list",
    int4("actor", primary_key=True, autoincrement=False),
    int8("rkey", primary_key=True, autoincrement=False),
    text("purpose"),
    text("name"),
    text("description", nullable=True),
    octets("avatar", nullable=True),
    time("created_at"),
    time("indexed_at"),
)

list_item = table(
    "list_item",
    int8("rkey"),
    int8("list_rkey"),
    int4("actor"),
    int4("list_actor"),
    int4("subject"),
    sa.PrimaryKeyConstraint("actor", "rkey"),
    sa.Index("list_item_list_idx", "list_actor", "list_rkey", "rkey"),
    # lists of an account, and membership of a blocked list
    sa.Index("list_item_subject_idx", "subject", "list_actor", "list_rkey"),
)

starter_pack = table(
    "starter_pack",
    int4("actor", primary_key=True, autoincrement=False),
    int8("rkey", primary_key=True, autoincrement=False),
    text("name"),
    text("description", nullable=True),
    int4("list_actor", nullable=True),
    int8("list_rkey", nullable=True),
    time("created_at"),
    time("indexed_at"),
)

labeler = table(
    "labeler",
    int4("actor", primary_key=True, autoincrement=False),
    time("created_at"),
    time("indexed_at"),
)

# Newest label (by cts) of a source on a subject. collection 0, rkey 0: the account.
# cid is empty when the label holds for every version. raw: the label as signed.
label = table(
    "label",
    int4("actor", primary_key=True, autoincrement=False),
    int4("collection", primary_key=True, autoincrement=False),
    int8("rkey", primary_key=True, autoincrement=False),
    int4("src", primary_key=True, autoincrement=False),
    text("val", primary_key=True),
    octets("cid", primary_key=True),
    flag("neg", server_default=sa.false()),
    time("cts"),
    time("exp", nullable=True),
    octets("raw"),
    sa.Index("label_src_cts_idx", "src", "cts"),
)
