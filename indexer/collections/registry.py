"""The description of every known collection, and the tables that hold their rows."""

from __future__ import annotations

from functools import partial
from typing import Final

from indexer.collections import app_bsky, generic, post
from indexer.collections.source import Collection
from indexer.links import account_links, subject_links
from storage import collections as nsids
from storage.records import rows

_named = app_bsky.named_text

COLLECTIONS: Final[dict[str, Collection]] = {
    collection.nsid: collection
    for collection in (
        Collection(nsids.FEED_POST, rows.POST, post.to_rows, post.to_text),
        Collection(
            nsids.FEED_LIKE, find_links=partial(subject_links, path=nsids.LIKE_SUBJECT)
        ),
        Collection(
            nsids.FEED_REPOST,
            find_links=partial(subject_links, path=nsids.REPOST_SUBJECT),
        ),
        Collection(
            nsids.GRAPH_FOLLOW,
            find_links=partial(account_links, path=nsids.FOLLOW_SUBJECT),
        ),
        Collection(
            nsids.GRAPH_BLOCK,
            find_links=partial(account_links, path=nsids.BLOCK_SUBJECT),
        ),
        Collection(nsids.GRAPH_LISTBLOCK),
        Collection(nsids.FEED_THREADGATE, to_rows=app_bsky.gate_rows),
        Collection(nsids.FEED_POSTGATE, to_rows=app_bsky.gate_rows),
        Collection(
            nsids.ACTOR_PROFILE,
            rows.PROFILE,
            app_bsky.profile_rows,
            _named("displayName"),
            listed=True,
        ),
        Collection(
            nsids.FEED_GENERATOR,
            rows.FEED_GENERATOR,
            app_bsky.feed_generator_rows,
            _named("displayName"),
            listed=True,
        ),
        Collection(
            nsids.GRAPH_LIST,
            rows.LIST,
            app_bsky.list_rows,
            _named("name"),
            listed=True,
        ),
        Collection(nsids.GRAPH_LISTITEM, rows.LIST_ITEM, app_bsky.list_item_rows),
        Collection(
            nsids.GRAPH_STARTERPACK,
            rows.STARTER_PACK,
            app_bsky.starter_pack_rows,
            _named("name"),
            listed=True,
        ),
        Collection(
            nsids.LABELER_SERVICE, rows.LABELER, app_bsky.labeler_rows, listed=True
        ),
    )
}

GENERIC: Final = Collection("*", to_text=generic.to_text, listed=True)
"""Records of all other lexicons: kept, linked, and searched by their text."""

ROW_TABLES: Final[tuple[rows.RowTable, ...]] = tuple(
    sorted(
        (item.table for item in COLLECTIONS.values() if item.table is not None),
        key=lambda table: table.name,
    )
)

OWNED_TABLES: Final[tuple[str, ...]] = (
    *(table.name for table in ROW_TABLES),
    "record",
    "listed_record",
    "collection_repo",
    "link",
    "uncounted_link",
    "dropped_record",
    "index_error",
    "resync_buffer",
    "distant_reply",
    "removed_verification",
    "record_json",
)
"""Tables whose `actor` is the account that the rows were read from. All of them must
be empty for an account that was deleted."""


def collection_for(nsid: str) -> Collection:
    """Return the description of a collection, `GENERIC` for an unknown one."""
    return COLLECTIONS.get(nsid, GENERIC)
