"""Rows derived from records: edges, rows by collection, labels."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from storage.records import rows as narrow
from storage.schema.columns import (
    NOW,
    ZERO,
    flag,
    int2,
    int4,
    int8,
    octets,
    table,
    text,
    time,
)

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

_KINDS: Final[dict[str, Any]] = {
    "int2": sa.SmallInteger,
    "int4": sa.Integer,
    "int8": sa.BigInteger,
    "text": sa.Text,
    "bytea": sa.LargeBinary,
    "timestamptz": sa.DateTime(timezone=True),
    "text[]": pg.ARRAY(sa.Text),
}


def _described(described: narrow.RowTable, *items: Any) -> sa.Table:
    keys = described.columns[: 1 if described.single else 2]
    columns: list[sa.Column[Any]] = [
        sa.Column(
            name,
            _KINDS[kind],
            nullable=name in described.optional,
            server_default=ZERO if name == "media" else None,
        )
        for name, kind in zip(described.columns, described.types, strict=True)
    ]
    return table(described.name, *columns, sa.PrimaryKeyConstraint(*keys), *items)


# sort_at = the earlier of created_at (claimed by the author) and indexed_at.
# media: bits of indexer.collections.post.Media.
post = _described(
    narrow.POST,
    sa.Index("post_actor_sort_at_idx", "actor", "sort_at"),
    sa.Index("post_sort_at_idx", "sort_at"),
    # replies of authors to themselves, by thread
    sa.Index(
        "post_own_thread_idx",
        "actor",
        "root_rkey",
        "rkey",
        postgresql_where=sa.text(
            "root_actor IS NOT DISTINCT FROM actor"
            " AND parent_actor IS NOT DISTINCT FROM actor"
        ),
    ),
)
profile = _described(narrow.PROFILE)
feed_generator = _described(
    narrow.FEED_GENERATOR,
    sa.Index("feed_generator_actor_created_at_idx", "actor", "created_at"),
)
# The time of the indexes is the one that views show.
list_ = _described(
    narrow.LIST,
    sa.Index(
        "list_time_idx",
        "actor",
        "purpose",
        sa.text("LEAST(created_at, indexed_at)"),
        "rkey",
    ),
)
list_item = _described(
    narrow.LIST_ITEM,
    sa.Index("list_item_list_idx", "list_actor", "list_rkey", "rkey"),
    # lists of an account, and membership of a blocked list
    sa.Index("list_item_subject_idx", "subject", "list_actor", "list_rkey"),
)
starter_pack = _described(
    narrow.STARTER_PACK,
    sa.Index(
        "starter_pack_time_idx",
        "actor",
        sa.text("LEAST(created_at, indexed_at)"),
        "rkey",
    ),
)
labeler = _described(narrow.LABELER)
# A reply and the account of an ancestor `height` levels above it, from two to four
# (storage.records.distant_replies). sort_at: that of the reply.
distant_reply = table(
    "distant_reply",
    int8("rkey", autoincrement=False),
    int8("subject_rkey"),
    time("sort_at"),
    int4("actor", autoincrement=False),
    int4("recipient"),
    int2("height", autoincrement=False),
    sa.PrimaryKeyConstraint("actor", "rkey", "height"),
    sa.Index(
        "distant_reply_recipient_idx",
        *("recipient", "sort_at", "rkey", "actor", "height"),
    ),
)
# Verifications that were deleted; a recreated one leaves.
removed_verification = table(
    "removed_verification",
    int8("rkey", autoincrement=False),
    time("removed_at"),
    int4("actor", autoincrement=False),
    int4("recipient"),
    sa.PrimaryKeyConstraint("actor", "rkey"),
    sa.Index(
        "removed_verification_recipient_idx",
        *("recipient", "removed_at", "rkey", "actor"),
    ),
)
# Newest label (by `cts`) of a source on a subject; `raw` is the label as signed. An
# account is collection 0, rkey 0. An empty `cid` stands for every version.
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
# Position of a labeler's stream: the number of the last message that is stored.
label_stream = table(
    "label_stream",
    int4("src", primary_key=True, autoincrement=False),
    int8("seq", server_default=ZERO),
    int8("labels", server_default=ZERO),
    time("newest_cts", nullable=True),
    time("seen_at", nullable=True),
    text("error", nullable=True),
    time("failing_since", nullable=True),
)
label_drop = table(
    "label_drop",
    int4("src", primary_key=True, autoincrement=False),
    text("reason", primary_key=True),
    int8("n"),
    time("last_at", server_default=NOW),
)
