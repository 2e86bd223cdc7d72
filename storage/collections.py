"""Collections and link paths with fixed ids, written by the first migration.

A known collection or path never needs a lookup. Ids below FIRST_FREE_ID are reserved
for this file; others are interned at run time (storage.records.interning).
"""

from __future__ import annotations

from typing import Final

FIRST_FREE_ID: Final = 1000
"""Identity columns of `collection` and `path` start here."""

FEED_POST: Final = "app.bsky.feed.post"
FEED_LIKE: Final = "app.bsky.feed.like"
FEED_REPOST: Final = "app.bsky.feed.repost"
FEED_GENERATOR: Final = "app.bsky.feed.generator"
FEED_THREADGATE: Final = "app.bsky.feed.threadgate"
FEED_POSTGATE: Final = "app.bsky.feed.postgate"
GRAPH_FOLLOW: Final = "app.bsky.graph.follow"
GRAPH_BLOCK: Final = "app.bsky.graph.block"
GRAPH_LIST: Final = "app.bsky.graph.list"
GRAPH_LISTITEM: Final = "app.bsky.graph.listitem"
GRAPH_LISTBLOCK: Final = "app.bsky.graph.listblock"
GRAPH_STARTERPACK: Final = "app.bsky.graph.starterpack"
GRAPH_VERIFICATION: Final = "app.bsky.graph.verification"
ACTOR_PROFILE: Final = "app.bsky.actor.profile"
ACTOR_STATUS: Final = "app.bsky.actor.status"
LABELER_SERVICE: Final = "app.bsky.labeler.service"

COLLECTION_IDS: Final[dict[str, int]] = {
    FEED_POST: 1,
    FEED_LIKE: 2,
    FEED_REPOST: 3,
    FEED_GENERATOR: 4,
    FEED_THREADGATE: 5,
    FEED_POSTGATE: 6,
    GRAPH_FOLLOW: 7,
    GRAPH_BLOCK: 8,
    GRAPH_LIST: 9,
    GRAPH_LISTITEM: 10,
    GRAPH_LISTBLOCK: 11,
    GRAPH_STARTERPACK: 12,
    GRAPH_VERIFICATION: 13,
    ACTOR_PROFILE: 14,
    ACTOR_STATUS: 15,
    LABELER_SERVICE: 16,
}

NO_COLLECTION: Final = 0
"""`link.target_collection` of a link to an account (a bare DID)."""
NO_RKEY: Final = 0
"""`link.target_rkey` of a link to an account or to a whole collection."""

NO_ACTOR: Final = 0
"""`link.target_actor` of a link to a web address, whose `target_rkey` is
`storage.records.web_urls.url_number`."""

RKEY_SELF: Final = -1
"""The interned id of the record key `self`."""

LIKE_SUBJECT: Final = 1
REPOST_SUBJECT: Final = 2
FOLLOW_SUBJECT: Final = 3
BLOCK_SUBJECT: Final = 4
REPLY_PARENT: Final = 5
REPLY_ROOT: Final = 6
QUOTE: Final = 7
QUOTE_WITH_MEDIA: Final = 8
MENTION: Final = 9
MENTION_TYPED: Final = 10
LISTITEM_LIST: Final = 11
LISTITEM_SUBJECT: Final = 12
LISTBLOCK_SUBJECT: Final = 13
LIKE_VIA: Final = 14
REPOST_VIA: Final = 15
STARTERPACK_LIST: Final = 16
POSTGATE_POST: Final = 17
THREADGATE_POST: Final = 18
VERIFICATION_SUBJECT: Final = 19
FOLLOW_VIA: Final = 20
CARD: Final = 21
CARD_WITH_MEDIA: Final = 22
WEB_LINK: Final = 23
WEB_LINK_TYPED: Final = 24
JOINED_VIA: Final = 25

QUOTE_PATHS: Final = (QUOTE, QUOTE_WITH_MEDIA)
MENTION_PATHS: Final = (MENTION, MENTION_TYPED)

PATHS: Final[dict[int, tuple[str, str]]] = {
    LIKE_SUBJECT: (FEED_LIKE, ".subject.uri"),
    REPOST_SUBJECT: (FEED_REPOST, ".subject.uri"),
    FOLLOW_SUBJECT: (GRAPH_FOLLOW, ".subject"),
    BLOCK_SUBJECT: (GRAPH_BLOCK, ".subject"),
    REPLY_PARENT: (FEED_POST, ".reply.parent.uri"),
    REPLY_ROOT: (FEED_POST, ".reply.root.uri"),
    QUOTE: (FEED_POST, ".embed.record.uri"),
    QUOTE_WITH_MEDIA: (FEED_POST, ".embed.record.record.uri"),
    MENTION: (FEED_POST, ".facets[].features[app.bsky.richtext.facet#mention].did"),
    MENTION_TYPED: (
        FEED_POST,
        ".facets[app.bsky.richtext.facet]"
        ".features[app.bsky.richtext.facet#mention].did",
    ),
    LISTITEM_LIST: (GRAPH_LISTITEM, ".list"),
    LISTITEM_SUBJECT: (GRAPH_LISTITEM, ".subject"),
    LISTBLOCK_SUBJECT: (GRAPH_LISTBLOCK, ".subject"),
    LIKE_VIA: (FEED_LIKE, ".via.uri"),
    REPOST_VIA: (FEED_REPOST, ".via.uri"),
    STARTERPACK_LIST: (GRAPH_STARTERPACK, ".list"),
    POSTGATE_POST: (FEED_POSTGATE, ".post"),
    THREADGATE_POST: (FEED_THREADGATE, ".post"),
    VERIFICATION_SUBJECT: (GRAPH_VERIFICATION, ".subject"),
    FOLLOW_VIA: (GRAPH_FOLLOW, ".via.uri"),
    CARD: (FEED_POST, ".embed.external.uri"),
    CARD_WITH_MEDIA: (FEED_POST, ".embed.media.external.uri"),
    WEB_LINK: (FEED_POST, ".facets[].features[app.bsky.richtext.facet#link].uri"),
    WEB_LINK_TYPED: (
        FEED_POST,
        ".facets[app.bsky.richtext.facet].features[app.bsky.richtext.facet#link].uri",
    ),
    JOINED_VIA: (ACTOR_PROFILE, ".joinedViaStarterPack.uri"),
}
"""Path id -> (source collection, path). Arrays are `[]`, or `[type]` when the item
names its `$type`."""

LINK_PARTITIONS: Final[dict[str, tuple[int, ...]]] = {
    "link_like": (LIKE_SUBJECT,),
    "link_repost": (REPOST_SUBJECT,),
    "link_follow": (FOLLOW_SUBJECT,),
    "link_block": (BLOCK_SUBJECT,),
    "link_reply_parent": (REPLY_PARENT,),
    "link_reply_root": (REPLY_ROOT,),
    "link_quote": QUOTE_PATHS,
    "link_mention": MENTION_PATHS,
    "link_listitem": (LISTITEM_LIST, LISTITEM_SUBJECT),
    "link_listblock": (LISTBLOCK_SUBJECT,),
    "link_via": (LIKE_VIA, REPOST_VIA, FOLLOW_VIA),
}
"""Partition of `link` -> the path ids it holds; all other paths are in
`link_default`."""
