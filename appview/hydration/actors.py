"""Accounts with profiles and counts, and the viewer's follows."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg.rows import class_row

from storage.collections import ACTOR_PROFILE, FOLLOW_SUBJECT
from storage.postgres.pool import Conn
from storage.private.takedowns import TakenDown
from storage.states import STATUS_ACTIVE


@dataclass(frozen=True, slots=True)
class Actor:
    """An account as the index knows it."""

    id: int
    did: str
    handle: str | None = None
    upstream_status: str = STATUS_ACTIVE
    takedown: str | None = None
    display_name: str | None = None
    description: str | None = None
    avatar: bytes | None = None
    banner: bytes | None = None
    created_at: datetime | None = None
    sort_at: datetime | None = None
    host_url: str | None = None
    followers: int = 0
    follows: int = 0
    posts: int = 0
    lists: int = 0
    feed_generators: int = 0
    starter_packs: int = 0
    labeler: bool = False
    is_indexed: bool = False
    """False for an account that only records of others name."""

    @property
    def is_shown(self) -> bool:
        """Return True if we hold the account and neither its host nor we hide it."""
        return (
            self.is_indexed
            and self.takedown is None
            and self.upstream_status == STATUS_ACTIVE
        )


@dataclass(slots=True)
class Relation:
    """Follows between the viewer and an account, as record keys."""

    following: int | None = None
    followed_by: int | None = None


def load_actors(conn: Conn, ids: Collection[int]) -> dict[int, Actor]:
    """Return accounts by id; unknown ids are absent."""
    with conn.cursor(row_factory=class_row(Actor)) as cursor:
        rows = cursor.execute(
            """
            SELECT a.id, a.did, a.handle, a.upstream_status, a.takedown,
                   p.display_name, p.description, p.avatar, p.banner, p.created_at,
                   least(p.created_at, p.indexed_at) AS sort_at,
                   h.url AS host_url,
                   coalesce(s.followers, 0) AS followers,
                   coalesce(s.follows, 0) AS follows,
                   coalesce(s.posts, 0) AS posts,
                   coalesce(s.lists, 0) AS lists,
                   coalesce(s.feed_generators, 0) AS feed_generators,
                   coalesce(s.starter_packs, 0) AS starter_packs,
                   l.actor IS NOT NULL AS labeler,
                   r.actor IS NOT NULL AS is_indexed
            FROM actor a
            LEFT JOIN profile p ON p.actor = a.id
            LEFT JOIN actor_stats s ON s.actor = a.id
            LEFT JOIN repo r ON r.actor = a.id
            LEFT JOIN host h ON h.id = r.host
            LEFT JOIN labeler l ON l.actor = a.id
            WHERE a.id = ANY(%s)
            """,
            ([*ids],),
        )
        return {actor.id: actor for actor in rows}


def has_no_profile(taken: TakenDown, did: str) -> bool:
    """Return True if the profile record of an account is taken down."""
    return did in taken.authors and f"at://{did}/{ACTOR_PROFILE}/self" in taken.records


def without_profiles(taken: TakenDown, actors: Iterable[Actor]) -> dict[int, Actor]:
    """Return the accounts whose profile is taken down, without its fields."""
    return {
        actor.id: replace(
            actor,
            display_name=None,
            description=None,
            avatar=None,
            banner=None,
            created_at=None,
            sort_at=None,
        )
        for actor in actors
        if has_no_profile(taken, actor.did)
    }


def load_relations(
    conn: Conn, viewer: int, ids: Collection[int]
) -> dict[int, Relation]:
    """Return the follows in both directions between the viewer and accounts."""
    found = {actor: Relation() for actor in ids}
    rows = conn.execute(
        """
        SELECT true, target_actor, rkey FROM link
        WHERE path = %(follow)s
          AND target_rkey = 0 AND target_actor = ANY(%(ids)s) AND actor = %(viewer)s
        UNION ALL
        SELECT false, actor, rkey FROM link
        WHERE path = %(follow)s
          AND target_rkey = 0 AND target_actor = %(viewer)s AND actor = ANY(%(ids)s)
        """,
        {"follow": FOLLOW_SUBJECT, "ids": [*ids], "viewer": viewer},
    )
    for outgoing, other, rkey in rows:
        if outgoing:
            found[other].following = rkey
        else:
            found[other].followed_by = rkey
    return found
