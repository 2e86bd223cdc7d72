"""Which module is in charge of a collection, and every table rows may be in."""

from __future__ import annotations

from typing import Final

from indexer.collections import (
    account_list,
    block,
    feed_generator,
    follow,
    generic,
    labeler,
    like,
    list_block,
    list_item,
    post,
    postgate,
    profile,
    repost,
    starter_pack,
    threadgate,
)
from indexer.collections.source import Collection
from storage.records.rows import RowTable

COLLECTIONS: Final[dict[str, Collection]] = {
    module.COLLECTION: module
    for module in (
        account_list,
        block,
        feed_generator,
        follow,
        labeler,
        like,
        list_block,
        list_item,
        post,
        postgate,
        profile,
        repost,
        starter_pack,
        threadgate,
    )
}

ROW_TABLES: Final[tuple[RowTable, ...]] = tuple(
    sorted(
        {table for module in COLLECTIONS.values() for table in module.TABLES},
        key=lambda table: table.name,
    )
)

OWNED_TABLES: Final[tuple[str, ...]] = (
    *(table.name for table in ROW_TABLES),
    "record",
    "link",
    "uncounted_link",
    "dropped_record",
    "index_error",
    "resync_buffer",
)
"""Every table with a column `actor` whose rows come out of that account's repo: what
deleting an account must leave empty."""


def collection_for(nsid: str) -> Collection:
    """The module of a collection; the generic one for all others."""
    return COLLECTIONS.get(nsid, generic)
