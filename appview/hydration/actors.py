"""Accounts with their profiles and counts, and how the viewer stands to them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from storage.collections import (
    ACTOR_PROFILE,
    BLOCK_SUBJECT,
    COLLECTION_IDS,
    FOLLOW_SUBJECT,
    RKEY_SELF,
)
from storage.documents import Address
from storage.states import STATUS_ACTIVE


@dataclass(frozen=True, slots=True)
class Actor:
    """One account as the index knows it."""

    id: int
    did: str
    handle: str | None
    upstream_status: str
    takedown: str | None
    display_name: str | None
    description: str | None
    avatar: bytes | None
    banner: bytes | None
    created_at: datetime | None
    sort_at: datetime | None
    host_url: str | None
    followers: int
    follows: int
    posts: int
    lists: int
    feed_generators: int
    starter_packs: int
    labeler: bool

    @property
    def is_shown(self) -> bool:
        """Neither its host nor we have hidden it."""
        return self.takedown is None and self.upstream_status == STATUS_ACTIVE


@dataclass(slots=True)
class Relation:
    """Between the viewer and an account: record keys of the viewer's records, and
    whether the account has such a record on the viewer."""

    following: int | None = None
    followed_by: int | None = None
    blocking: int | None = None
    blocked_by: bool = False


def profile_address(actor: int) -> Address:
    """Return the address of an account's profile record."""
    return Address(actor, COLLECTION_IDS[ACTOR_PROFILE], RKEY_SELF)


def load_actors(
    conn: psycopg.Connection[Any], ids: Collection[int]
) -> dict[int, Actor]:
    """Accounts by id; unknown ids are absent."""
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
                   l.actor IS NOT NULL AS labeler
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


def load_relations(
    conn: psycopg.Connection[Any], viewer: int, ids: Collection[int]
) -> dict[int, Relation]:
    """Follows and blocks both ways between the viewer and these accounts."""
    found = {actor: Relation() for actor in ids}
    rows = conn.execute(
        """
        SELECT path, true, target_actor, rkey FROM link
        WHERE path IN (%(follow)s, %(block)s)
          AND target_rkey = 0 AND target_actor = ANY(%(ids)s) AND actor = %(viewer)s
        UNION ALL
        SELECT path, false, actor, rkey FROM link
        WHERE path IN (%(follow)s, %(block)s)
          AND target_rkey = 0 AND target_actor = %(viewer)s AND actor = ANY(%(ids)s)
        """,
        {
            "follow": FOLLOW_SUBJECT,
            "block": BLOCK_SUBJECT,
            "ids": [*ids],
            "viewer": viewer,
        },
    )
    for path, outgoing, other, rkey in rows:
        relation = found[other]
        if path == FOLLOW_SUBJECT:
            if outgoing:
                relation.following = rkey
            else:
                relation.followed_by = rkey
        elif outgoing:
            relation.blocking = rkey
        else:
            relation.blocked_by = True
    return found
