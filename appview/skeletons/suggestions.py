"""Suggested accounts, feeds and starter packs, from follows and likes in the index.

A viewer's sample has accounts that they follow, and accounts that like what they like.
Suggested is what many of the sample follow, like or made, then what is popular with
everybody. Every query reads a bounded number of rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

from appview.hydration.records import GENERATOR, POST, STARTER_PACK
from appview.own_feeds import find_feed_addresses, own_records
from appview.paging import Entry, Keyset
from appview.session import Session
from appview.skeletons.places import liked_records
from storage.collections import NO_COLLECTION
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.popular import MAX_PLACES, Popular, find_popular
from storage.records.record_allowance import Allowance

MAX_SUGGESTED: Final = 300
"""Personal suggestions before the popular ones."""
SAMPLED_FOLLOWS: Final = 120
"""Accounts that the viewer follows, the latest, among MAX_READ_FOLLOWS."""
MAX_READ_FOLLOWS: Final = 5_000
SAMPLED_LIKES: Final = 30
"""Newest likes of the viewer."""
LIKERS_OF_A_POST: Final = 50
CO_LIKERS: Final = 30
FOLLOWS_OF_EACH: Final = 250
"""Follows read for each account of a sample."""
LIKED_FEEDS: Final = 200
"""Popular feeds that are searched for likes of the sample."""
_LIKE_BYTES: Final = 200_000
_LIKE_ITEMS: Final = 10_000
_NOBODY: Final = -1

T = TypeVar("T", bound=int | Address)


class Sample(NamedTuple):
    """Accounts that stand for a taste, and the authors that the viewer likes."""

    accounts: list[int]
    liked_authors: list[int]


def ranked(
    personal: Iterable[tuple[T, int]], others: Iterable[tuple[T, Keyset]]
) -> list[Entry[T]]:
    """Return the entries of a list, each once: personal ones by score, then others.

    The keyset of a personal entry begins with 0, that of others with a higher number.
    """
    found: dict[T, Keyset] = {}
    for item, score in sorted(personal, key=lambda pair: (-pair[1], _key(pair[0]))):
        found.setdefault(item, [0, -score, *_key(item)])
    for item, keyset in others:
        found.setdefault(item, keyset)
    return [Entry(item, keyset) for item, keyset in found.items()]


def entries_after(
    entries: Sequence[Entry[T]], after: Keyset | None, limit: int
) -> list[Entry[T]]:
    """Return the next entries of a list that was made again for this page."""
    keysets = [entry.keyset for entry in entries]
    start = bisect_right(keysets, after) if after else 0
    return list(entries[start : start + limit])


def suggested_accounts(session: Session, after: Keyset | None) -> list[Entry[int]]:
    """Return accounts for the viewer, then the most followed."""
    viewer = session.viewer_actor
    scores: list[tuple[int, int]] = []
    if viewer is not None:
        sample = taste_of(session.conn, viewer)
        scores = score_accounts(session.conn, sample, viewer)
    popular = _popular(session.conn, NO_COLLECTION, after)
    return ranked(scores, ((p.actor, [1, p.place, p.generation]) for p in popular))


def similar_accounts(session: Session, actor: int) -> list[Entry[int]]:
    """Return accounts that the followers of an account follow too."""
    rows = session.conn.execute(
        "SELECT actor FROM link_follow WHERE target_actor = %s"
        " ORDER BY sort_at DESC LIMIT %s",
        (actor, SAMPLED_FOLLOWS),
    ).fetchall()
    sample = Sample([row[0] for row in rows], [])
    viewer = session.viewer_actor
    scores = score_accounts(session.conn, sample, viewer or _NOBODY, without=actor)
    return ranked(scores, ())


def suggested_feeds(session: Session, after: Keyset | None) -> list[Entry[Address]]:
    """Return feeds that the viewer's sample likes or made, then the most liked."""
    conn, viewer = session.conn, session.viewer_actor
    others = popular_feeds(session, after)
    scores: list[tuple[Address, int]] = []
    if viewer is not None:
        sample = taste_of(conn, viewer).accounts
        liked = [entry.item for entry in others[:LIKED_FEEDS]]
        scores = _score_feeds(conn, sample, liked)
    return ranked(scores, ((entry.item, entry.keyset) for entry in others))


def popular_feeds(session: Session, after: Keyset | None) -> list[Entry[Address]]:
    """Return the most liked feeds, and at the end those of this provider."""
    popular = _popular(session.conn, GENERATOR, after)
    found: dict[Address, Keyset] = {
        Address(p.actor, GENERATOR, p.rkey): [1, p.place, p.generation] for p in popular
    }
    uris = [record.uri for record in own_records(session).values()]
    own = find_feed_addresses(session, uris)
    for place, uri in enumerate(uris):
        found.setdefault(own[uri], [2, place])
    return [Entry(*pair) for pair in found.items()]


def suggested_packs(session: Session, after: Keyset | None) -> list[Entry[Address]]:
    """Return starter packs of the viewer's sample, then of the most followed."""
    conn, viewer = session.conn, session.viewer_actor
    scores: list[tuple[Address, int]] = []
    if viewer is not None:
        rows = conn.execute(
            "SELECT actor, max(rkey) FROM starter_pack WHERE actor = ANY(%s)"
            " GROUP BY actor",
            (taste_of(conn, viewer).accounts,),
        )
        scores = [(Address(actor, STARTER_PACK, rkey), 1) for actor, rkey in rows]
    popular = _popular(conn, STARTER_PACK, after)
    return ranked(
        scores,
        (
            (Address(p.actor, STARTER_PACK, p.rkey), [1, p.place, p.generation])
            for p in popular
        ),
    )


def taste_of(conn: Conn, viewer: int) -> Sample:
    """Return the sample of a viewer."""
    follows = conn.execute(
        """
        SELECT id FROM (SELECT target_actor AS id, sort_at FROM link_follow
                        WHERE actor = %s LIMIT %s) AS followed
        ORDER BY sort_at DESC LIMIT %s
        """,
        (viewer, MAX_READ_FOLLOWS, SAMPLED_FOLLOWS),
    ).fetchall()
    allowance = Allowance(_LIKE_BYTES, _LIKE_ITEMS)
    liked = liked_records(conn, viewer, SAMPLED_LIKES, allowance)
    posts = [address for address in liked if address.collection == POST]
    likers = _co_likers(conn, posts, viewer)
    accounts = dict.fromkeys([*(row[0] for row in follows), *likers])
    return Sample([*accounts], [post.actor for post in posts if post.actor != viewer])


def _co_likers(conn: Conn, posts: Sequence[Address], viewer: int) -> list[int]:
    """Return the accounts that like most of these posts, at least two of them."""
    rows = conn.execute(
        """
        SELECT l.actor FROM unnest(%s::int4[], %s::int8[]) AS x (actor, rkey)
        CROSS JOIN LATERAL (
            SELECT actor FROM link_like
            WHERE target_rkey = x.rkey AND target_actor = x.actor
              AND target_collection = %s
            LIMIT %s
        ) l
        WHERE l.actor <> %s
        """,
        (
            [post.actor for post in posts],
            [post.rkey for post in posts],
            POST,
            LIKERS_OF_A_POST,
            viewer,
        ),
    )
    counts = Counter(row[0] for row in rows)
    return [actor for actor, n in counts.most_common(CO_LIKERS) if n > 1]


def score_accounts(
    conn: Conn, sample: Sample, viewer: int, *, without: int = _NOBODY
) -> list[tuple[int, int]]:
    """Return accounts that a sample follows or that the viewer likes, with scores.

    The score is n² / √followers for n votes, so that an account that everybody follows
    does not outweigh those of the viewer's own circle.
    """
    rows = conn.execute(
        """
        WITH vote AS (
            SELECT f.id FROM unnest(%(sample)s::int4[]) AS s (id)
            CROSS JOIN LATERAL (
                SELECT target_actor AS id FROM link_follow
                WHERE actor = s.id LIMIT %(each)s
            ) f
            UNION ALL SELECT * FROM unnest(%(liked)s::int4[])
        ), counted AS (
            SELECT id, count(*) AS n FROM vote
            WHERE id <> %(viewer)s AND id <> %(without)s
            GROUP BY id ORDER BY n DESC, id LIMIT 4 * %(most)s
        )
        SELECT c.id, round(
            100 * c.n * c.n / sqrt(coalesce(s.followers, 0) + 10))::int8 AS score
        FROM counted c LEFT JOIN actor_stats s ON s.actor = c.id
        WHERE NOT EXISTS (
            SELECT FROM link_follow f
            WHERE f.actor = %(viewer)s AND f.target_actor = c.id)
        ORDER BY score DESC, c.id LIMIT %(most)s
        """,
        {
            "sample": sample.accounts,
            "liked": sample.liked_authors,
            "each": FOLLOWS_OF_EACH,
            "viewer": viewer,
            "without": without,
            "most": MAX_SUGGESTED,
        },
    )
    return [(actor, score) for actor, score in rows]


def _score_feeds(
    conn: Conn, sample: Sequence[int], feeds: Sequence[Address]
) -> list[tuple[Address, int]]:
    """Return the feeds that a sample likes, or made, by the number of accounts."""
    counts: Counter[Address] = Counter()
    rows = conn.execute(
        """
        SELECT x.actor, x.rkey, (
            SELECT count(DISTINCT l.actor) FROM link_like l
            WHERE l.target_rkey = x.rkey AND l.target_actor = x.actor
              AND l.target_collection = %s AND l.actor = ANY(%s))
        FROM unnest(%s::int4[], %s::int8[]) AS x (actor, rkey)
        UNION ALL
        SELECT actor, rkey, 1 FROM feed_generator WHERE actor = ANY(%s)
        """,
        (
            GENERATOR,
            [*sample],
            [feed.actor for feed in feeds],
            [feed.rkey for feed in feeds],
            [*sample],
        ),
    )
    for actor, rkey, n in rows:
        counts[Address(actor, GENERATOR, rkey)] += n
    return [pair for pair in counts.most_common(MAX_SUGGESTED) if pair[1]]


def _popular(conn: Conn, collection: int, after: Keyset | None) -> list[Popular]:
    """Return the list that a cursor began with, else the newest."""
    began = (after[2], 0) if after is not None and after[0] == 1 else None
    return find_popular(conn, collection, limit=MAX_PLACES, after=began)


def _key(item: int | Address) -> tuple[int, ...]:
    return (item,) if isinstance(item, int) else (item.actor, item.rkey)
