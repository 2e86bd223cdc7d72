"""Notifications of an account, from the edges to it and to its records.

An edge is written and deleted with its record, so a notification is neither lost nor
doubled. Each kind of edge has an index by account and time; a page merges them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from operator import itemgetter
from typing import Any, Final, NamedTuple

from storage.collections import (
    ACTOR_PROFILE,
    COLLECTION_IDS,
    FEED_LIKE,
    FEED_POST,
    FEED_REPOST,
    FOLLOW_SUBJECT,
    GRAPH_FOLLOW,
    GRAPH_STARTERPACK,
    GRAPH_VERIFICATION,
    JOINED_VIA,
    LIKE_SUBJECT,
    LIKE_VIA,
    MENTION_PATHS,
    NO_COLLECTION,
    QUOTE_PATHS,
    REPLY_PARENT,
    REPOST_SUBJECT,
    REPOST_VIA,
    VERIFICATION_SUBJECT,
)
from storage.postgres.instants import from_micros, micros_sql
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.links import partition_of


class Reason(StrEnum):
    """The reasons of the lexicon."""

    LIKE = "like"
    REPOST = "repost"
    FOLLOW = "follow"
    MENTION = "mention"
    REPLY = "reply"
    QUOTE = "quote"
    STARTERPACK_JOINED = "starterpack-joined"
    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    LIKE_VIA_REPOST = "like-via-repost"
    REPOST_VIA_REPOST = "repost-via-repost"
    SUBSCRIBED_POST = "subscribed-post"

    @property
    def preference(self) -> str:
        """Return the name of its preference, as in `likeViaRepost`."""
        first, *words = self.value.split("-")
        return first + "".join(word.capitalize() for word in words)


POST_REASONS: Final = (
    Reason.MENTION,
    Reason.QUOTE,
    Reason.REPLY,
    Reason.SUBSCRIBED_POST,
)
"""Reasons of one post for one account: the first that holds is shown."""


class Slot(IntEnum):
    """A kind of record that notifies once, in the order of equal times."""

    LIKE = 1
    REPOST = 2
    FOLLOW = 3
    POST = 4
    PROFILE = 5
    VERIFICATION = 6
    LIKE_VIA = 7
    REPOST_VIA = 8
    REMOVED_VERIFICATION = 9


SLOT_OF: Final = {
    Reason.LIKE: Slot.LIKE,
    Reason.REPOST: Slot.REPOST,
    Reason.FOLLOW: Slot.FOLLOW,
    **dict.fromkeys(POST_REASONS, Slot.POST),
    Reason.STARTERPACK_JOINED: Slot.PROFILE,
    Reason.VERIFIED: Slot.VERIFICATION,
    Reason.UNVERIFIED: Slot.REMOVED_VERIFICATION,
    Reason.LIKE_VIA_REPOST: Slot.LIKE_VIA,
    Reason.REPOST_VIA_REPOST: Slot.REPOST_VIA,
}
_COLLECTION_OF: Final = {
    Slot.LIKE: COLLECTION_IDS[FEED_LIKE],
    Slot.LIKE_VIA: COLLECTION_IDS[FEED_LIKE],
    Slot.REPOST: COLLECTION_IDS[FEED_REPOST],
    Slot.REPOST_VIA: COLLECTION_IDS[FEED_REPOST],
    Slot.FOLLOW: COLLECTION_IDS[GRAPH_FOLLOW],
    Slot.POST: COLLECTION_IDS[FEED_POST],
    Slot.PROFILE: COLLECTION_IDS[ACTOR_PROFILE],
    Slot.VERIFICATION: COLLECTION_IDS[GRAPH_VERIFICATION],
    Slot.REMOVED_VERIFICATION: COLLECTION_IDS[GRAPH_VERIFICATION],
}
_POST: Final = COLLECTION_IDS[FEED_POST]
_REASONS: Final = tuple(Reason)


class Cause(NamedTuple):
    """A reason, and the account's own record that it is about, if any."""

    reason: Reason
    subject: Address | None


class Notice(NamedTuple):
    """A notification: the record of another account, and its causes by preference."""

    sort_us: int
    rkey: int
    actor: int
    slot: Slot
    causes: tuple[Cause, ...]
    followed: bool

    @property
    def record(self) -> Address:
        """Return the address of the record."""
        return Address(self.actor, _COLLECTION_OF[self.slot], self.rkey)

    @property
    def key(self) -> NoticeKey:
        """Return the place in the list."""
        return self.sort_us, self.rkey, self.actor, self.slot


NoticeKey = tuple[int, int, int, int]
"""Time in microseconds, record key, account, slot."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Accounts whose posts notify: since when, and posts or replies or both."""

    actors: Sequence[int] = ()
    since: Sequence[datetime] = ()
    posts: Sequence[bool] = ()
    replies: Sequence[bool] = ()


@dataclass(frozen=True, slots=True)
class _Edges:
    """Edges of some paths to the records of an account, or to the account itself."""

    reason: Reason
    paths: tuple[int, ...]
    target: int | None = None
    """Collection of the target; None: any."""


_EDGES: Final = (
    _Edges(Reason.LIKE, (LIKE_SUBJECT,)),
    _Edges(Reason.REPOST, (REPOST_SUBJECT,)),
    _Edges(Reason.FOLLOW, (FOLLOW_SUBJECT,), NO_COLLECTION),
    _Edges(Reason.MENTION, MENTION_PATHS, NO_COLLECTION),
    _Edges(Reason.QUOTE, QUOTE_PATHS, _POST),
    _Edges(Reason.REPLY, (REPLY_PARENT,), _POST),
    _Edges(Reason.STARTERPACK_JOINED, (JOINED_VIA,), COLLECTION_IDS[GRAPH_STARTERPACK]),
    _Edges(Reason.VERIFIED, (VERIFICATION_SUBJECT,), NO_COLLECTION),
    _Edges(Reason.LIKE_VIA_REPOST, (LIKE_VIA,), COLLECTION_IDS[FEED_REPOST]),
    _Edges(Reason.REPOST_VIA_REPOST, (REPOST_VIA,), COLLECTION_IDS[FEED_REPOST]),
)


def find_notices(
    conn: Conn,
    recipient: int,
    reasons: Iterable[Reason],
    limit: int,
    *,
    after: NoticeKey | None = None,
    since: datetime | None = None,
    subscribed: Subscribed | None = None,
) -> list[Notice]:
    """Return notices for an account, newest first.

    A post is complete with all its causes, wanted or not. `since` excludes notices of
    this time and before.
    """
    wanted = {*reasons}
    if wanted & {*POST_REASONS}:
        wanted |= {*POST_REASONS}
    subscribed = subscribed or Subscribed()
    branches = _branches(wanted, after, since, subscribed)
    if not branches:
        return []
    values: dict[str, Any] = {
        "me": recipient,
        "limit": limit,
        "since": since,
        "actors": [*subscribed.actors],
        "subscribed": [*subscribed.since],
        "posts": [*subscribed.posts],
        "replies": [*subscribed.replies],
    }
    if after is not None:
        values |= {"moment": from_micros(after[0]), "rkey": after[1], "actor": after[2]}
    rows = conn.execute(
        f"""
        SELECT n.reason, {micros_sql("n.sort_at")}, n.rkey, n.actor, n.collection,
               n.subject_rkey, EXISTS (
                   SELECT FROM {partition_of(FOLLOW_SUBJECT)} f
                   WHERE f.actor = %(me)s AND f.target_actor = n.actor
                     AND f.path = {FOLLOW_SUBJECT}), n.distance
        FROM ({" UNION ALL ".join(branches)}) AS n
        """,
        values,
    )
    return _merge(recipient, rows)[:limit]


def _merge(recipient: int, rows: Iterable[tuple[Any, ...]]) -> list[Notice]:
    found: dict[NoticeKey, tuple[bool, dict[Reason, Address | None]]] = {}
    for number, sort_us, rkey, actor, collection, subject_rkey, followed, _ in sorted(
        rows, key=itemgetter(-1)
    ):
        reason = _REASONS[number]
        key = (sort_us, rkey, actor, SLOT_OF[reason])
        subject = None
        if collection != NO_COLLECTION:
            subject = Address(recipient, collection, subject_rkey)
        # A parent comes before an ancestor further up.
        found.setdefault(key, (followed, {}))[1].setdefault(reason, subject)
    return [
        Notice(
            *key[:3],
            Slot(key[3]),
            tuple(
                Cause(reason, causes[reason]) for reason in _ORDER if reason in causes
            ),
            followed,
        )
        for key, (followed, causes) in sorted(found.items(), reverse=True)
    ]


_ORDER: Final = (*POST_REASONS, *(r for r in Reason if r not in POST_REASONS))


def _branches(
    wanted: set[Reason],
    after: NoticeKey | None,
    since: datetime | None,
    subscribed: Subscribed,
) -> list[str]:
    branches = [
        _branch(
            edges.reason,
            f"{partition_of(edges.paths[0])} l",
            f"l.target_actor = %(me)s AND l.path IN ({_listed(edges.paths)})"
            + ("" if edges.target is None else _target(edges.target)),
            ("l.target_collection", "l.target_rkey"),
            after,
            since,
        )
        for edges in _EDGES
        if edges.reason in wanted
    ]
    if Reason.REPLY in wanted:
        branches.append(
            _branch(
                Reason.REPLY,
                "distant_reply l",
                "l.recipient = %(me)s",
                (str(_POST), "l.subject_rkey"),
                after,
                since,
                nearest="l.height",
            )
        )
    if Reason.UNVERIFIED in wanted:
        branches.append(
            _branch(
                Reason.UNVERIFIED,
                "(SELECT removed_at AS sort_at, rkey, actor, recipient"
                " FROM removed_verification) l",
                "l.recipient = %(me)s",
                (str(NO_COLLECTION), "0"),
                after,
                since,
            )
        )
    if Reason.SUBSCRIBED_POST in wanted and subscribed.actors:
        branches.append(_subscribed_branch(after, since))
    return branches


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _target(collection: int) -> str:
    return f" AND l.target_collection = {collection}"


def _branch(
    reason: Reason,
    table: str,
    where: str,
    subject: tuple[str, str],
    after: NoticeKey | None,
    since: datetime | None,
    *,
    nearest: str = "",
) -> str:
    """Return the SQL of one kind of notices, each record once."""
    order = "l.sort_at DESC, l.rkey DESC, l.actor DESC"
    return f"""
        (SELECT DISTINCT ON (l.sort_at, l.rkey, l.actor)
            {_REASONS.index(reason)} AS reason, l.sort_at, l.rkey, l.actor,
            {subject[0]} AS collection, {subject[1]} AS subject_rkey,
            {int(bool(nearest))} AS distance
         FROM {table}
         WHERE {where} AND l.actor <> %(me)s {_bounds(reason, after, since)}
         ORDER BY {order}{", " + nearest if nearest else ""} LIMIT %(limit)s)
        """


def _bounds(reason: Reason, after: NoticeKey | None, since: datetime | None) -> str:
    found = "" if since is None else "AND l.sort_at > %(since)s"
    if after is None:
        return found
    # The first condition is of the index, the second leaves out what was shown: as no
    # comparison of rows, or the index would begin at the time alone.
    moment = "%(moment)s::timestamptz"
    sign = "<=" if SLOT_OF[reason] < after[3] else "<"
    return f"""{found}
        AND (l.sort_at, l.rkey) <= ({moment}, %(rkey)s::int8)
        AND (l.sort_at < {moment} OR l.rkey < %(rkey)s::int8
             OR l.actor {sign} %(actor)s::int4)"""


def _subscribed_branch(after: NoticeKey | None, since: datetime | None) -> str:
    reason = Reason.SUBSCRIBED_POST
    return f"""
        (SELECT {_REASONS.index(reason)} AS reason, l.sort_at, l.rkey, l.actor,
            {NO_COLLECTION} AS collection, 0 AS subject_rkey, 0 AS distance
         FROM unnest(%(actors)s::int4[], %(subscribed)s::timestamptz[],
                     %(posts)s::bool[], %(replies)s::bool[])
             AS s (actor, since, posts, replies)
         CROSS JOIN LATERAL (
             SELECT l.sort_at, l.rkey, l.actor FROM post l
             WHERE l.actor = s.actor AND l.sort_at >= s.since AND l.actor <> %(me)s
               AND CASE WHEN l.parent_rkey IS NULL THEN s.posts ELSE s.replies END
               {_bounds(reason, after, since)}
             ORDER BY l.sort_at DESC, l.rkey DESC LIMIT %(limit)s
         ) AS l
         ORDER BY l.sort_at DESC, l.rkey DESC, l.actor DESC LIMIT %(limit)s)
        """
