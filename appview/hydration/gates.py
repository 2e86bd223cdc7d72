"""Thread gates and post gates: the accounts that may reply or quote.

A gate is the record under the key of its post. It is applied when a post is read, with
the follows and lists of that moment, to posts written after the gate.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from appview.hydration.records import POST, Post, Record
from protocol.data.cbor import Value
from protocol.syntax import datetime_us, is_datetime
from storage.collections import (
    COLLECTION_IDS,
    FEED_POSTGATE,
    FEED_THREADGATE,
    FOLLOW_SUBJECT,
    NO_RKEY,
    REPLY_PARENT,
)
from storage.postgres.arrays import int_columns
from storage.postgres.instants import to_micros
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.links import partition_of

THREADGATE: Final = COLLECTION_IDS[FEED_THREADGATE]
POSTGATE: Final = COLLECTION_IDS[FEED_POSTGATE]
MENTION_RULE: Final = f"{FEED_THREADGATE}#mentionRule"
FOLLOWER_RULE: Final = f"{FEED_THREADGATE}#followerRule"
FOLLOWING_RULE: Final = f"{FEED_THREADGATE}#followingRule"
LIST_RULE: Final = f"{FEED_THREADGATE}#listRule"
DISABLE_RULE: Final = f"{FEED_POSTGATE}#disableRule"
FACET_MENTION: Final = "app.bsky.richtext.facet#mention"

MAX_RULES: Final = 20
MAX_COUNTED_REPLIES: Final = 200
"""Newest replies of a gated post that are checked for its reply count."""
MAX_COUNTED_ROWS: Final = 10_000
"""Replies checked for one answer, those of the requested posts first."""
_TOGETHER_US: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class ThreadGate:
    """The accounts that may reply in a thread; all of them unless `closed`."""

    record: Record
    made_us: int | None
    closed: bool
    kinds: frozenset[str]
    lists: tuple[str, ...]
    hidden_replies: frozenset[str]


@dataclass(frozen=True, slots=True)
class PostGate:
    """The rule for quotes of a post, and the quotes that its author detached."""

    made_us: int | None
    disabled: bool
    detached: frozenset[str]


class Reply(NamedTuple):
    """The columns of a reply that gates are applied to."""

    parent: Address
    address: Address
    root: Address
    sort_at: datetime


def threadgate_address(root: Address) -> Address:
    """Return the address of the gate of a thread."""
    return Address(root.actor, THREADGATE, root.rkey)


def postgate_address(post: Address) -> Address:
    """Return the address of the gate of a post."""
    return Address(post.actor, POSTGATE, post.rkey)


def read_threadgate(record: Record, post_uri: str) -> ThreadGate | None:
    """Return the gate in a record; None if it is the gate of another post."""
    value = record.value
    if value.get("post") != post_uri:
        return None
    allow = value.get("allow")
    rules = [rule for rule in _items(allow)[:MAX_RULES] if isinstance(rule, dict)]
    return ThreadGate(
        record=record,
        made_us=_made_us(value),
        closed=isinstance(allow, list),
        kinds=frozenset(t for rule in rules if isinstance(t := rule.get("$type"), str)),
        lists=tuple(
            uri
            for rule in rules
            if rule.get("$type") == LIST_RULE
            and isinstance(uri := rule.get("list"), str)
        ),
        hidden_replies=_texts(value.get("hiddenReplies")),
    )


def read_postgate(record: Record, post_uri: str) -> PostGate | None:
    """Return the gate in a record; None if it is the gate of another post."""
    value = record.value
    if value.get("post") != post_uri:
        return None
    rules = _items(value.get("embeddingRules"))
    return PostGate(
        made_us=_made_us(value),
        disabled=any(
            isinstance(rule, dict) and rule.get("$type") == DISABLE_RULE
            for rule in rules
        ),
        detached=_texts(value.get("detachedEmbeddingUris")),
    )


def mentioned_dids(post: dict[str, Value]) -> set[str]:
    """Return the accounts that a post mentions."""
    return {
        did
        for facet in _items(post.get("facets"))
        if isinstance(facet, dict)
        for feature in _items(facet.get("features"))
        if isinstance(feature, dict) and feature.get("$type") == FACET_MENTION
        if isinstance(did := feature.get("did"), str)
    }


def predates(sort_at: datetime, made_us: int | None, subject: Post | None) -> bool:
    """Return True if a reply or quote was written before the gate of its subject.

    A gate made within a minute of its post applies from the start, since clocks differ.
    A reply dated before its subject counts as later.
    """
    if made_us is None or to_micros(sort_at) >= made_us:
        return False
    if subject is None:
        return True
    posted_us = _made_us(subject.record.value)
    together = posted_us is not None and made_us - posted_us <= _TOGETHER_US
    return not together and sort_at >= subject.sort_at


def load_replies(conn: Conn, posts: Collection[Address]) -> list[Reply]:
    """Return the newest replies to each post."""
    rows = conn.execute(
        f"""
        SELECT x.a, x.k, p.actor, p.rkey, p.root_actor, p.root_rkey, p.sort_at
        FROM unnest(%s::int4[], %s::int8[]) AS x (a, k)
        CROSS JOIN LATERAL (
            SELECT actor, rkey FROM {partition_of(REPLY_PARENT)}
            WHERE path = %s AND target_rkey = x.k AND target_actor = x.a
            ORDER BY rkey DESC LIMIT %s
        ) r
        JOIN post p ON p.actor = r.actor AND p.rkey = r.rkey
        WHERE p.root_actor IS NOT NULL
        LIMIT %s
        """,
        (
            *int_columns([(a.actor, a.rkey) for a in posts], 2),
            REPLY_PARENT,
            MAX_COUNTED_REPLIES,
            MAX_COUNTED_ROWS,
        ),
    )
    return [
        Reply(
            Address(a, POST, k), Address(by, POST, key), Address(ra, POST, rk), sort_at
        )
        for a, k, by, key, ra, rk, sort_at in rows
    ]


def load_follows(
    conn: Conn, pairs: Collection[tuple[int, int]]
) -> set[tuple[int, int]]:
    """Return the pairs whose first account follows the second."""
    rows = conn.execute(
        f"""
        SELECT DISTINCT x.a, x.b FROM unnest(%s::int4[], %s::int4[]) AS x (a, b)
        JOIN {partition_of(FOLLOW_SUBJECT)} l
          ON l.actor = x.a AND l.target_actor = x.b
        WHERE l.path = %s AND l.target_rkey = %s
        """,
        (*int_columns([*pairs], 2), FOLLOW_SUBJECT, NO_RKEY),
    )
    return {(a, b) for a, b in rows}


def load_members(
    conn: Conn, pairs: Collection[tuple[Address, int]]
) -> set[tuple[Address, int]]:
    """Return the pairs whose account is on the list."""
    if not pairs:
        return set()
    collection = next(iter(pairs))[0].collection
    rows = conn.execute(
        """
        SELECT DISTINCT i.list_actor, i.list_rkey, i.subject
        FROM unnest(%s::int4[], %s::int8[], %s::int4[]) AS x (a, k, s)
        JOIN list_item i
          ON i.subject = x.s AND i.list_actor = x.a AND i.list_rkey = x.k
        """,
        int_columns([(held.actor, held.rkey, who) for held, who in pairs], 3),
    )
    return {(Address(a, collection, k), subject) for a, k, subject in rows}


def _made_us(value: dict[str, Value]) -> int | None:
    made = value.get("createdAt")
    return datetime_us(made) if isinstance(made, str) and is_datetime(made) else None


def _items(value: Value) -> list[Value]:
    return value if isinstance(value, list) else []


def _texts(value: Value) -> frozenset[str]:
    return frozenset(item for item in _items(value) if isinstance(item, str))
