"""Posts that an account likes, newest likes first.

Likes have no index by their account, which would be the largest of all. The records are
read by their keys instead; only the account itself sees the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from appview.hydration.records import LIKE, POST, load_records
from appview.paging import Entry, Keyset, Source
from appview.pipeline import Params
from appview.session import Session
from feeds.skeleton import SkeletonItem
from network.xrpc.server import XrpcError
from protocol.syntax import is_at_uri
from storage.collections import LIKE_SUBJECT
from storage.postgres.arrays import int_columns
from storage.postgres.pool import Conn
from storage.records.addresses import Address, find_addresses
from storage.records.links import partition_of
from storage.records.record_allowance import Allowance

_LAST_RKEY: Final = 2**63 - 1
_LIKE_BYTES: Final = 1_000_000
_LIKE_ITEMS: Final = 20_000


def own_likes(session: Session, params: Params) -> Source[SkeletonItem]:
    """Return the posts that the viewer likes. Raises XrpcError for other accounts."""
    viewer = session.viewer
    actor = session.find_actor(params["actor"])
    is_own = viewer is not None and params["actor"] == viewer.did
    if not is_own and (actor is None or actor != session.viewer_actor):
        raise XrpcError("InvalidRequest", "Profile not found", 400)
    if actor is None:
        return Source(lambda after, limit: [])

    def fetch(after: Keyset | None, limit: int) -> list[Entry[SkeletonItem]]:
        return _fetch(session.conn, actor, after, limit)

    return Source(fetch, [actor])


def _fetch(
    conn: Conn, actor: int, after: Keyset | None, limit: int
) -> list[Entry[SkeletonItem]]:
    [last] = after or [_LAST_RKEY]
    rows = conn.execute(
        "SELECT rkey FROM record WHERE actor = %s AND collection = %s AND rkey < %s"
        " ORDER BY rkey DESC LIMIT %s",
        (actor, LIKE, last, limit),
    ).fetchall()
    likes = [Address(actor, LIKE, rkey) for (rkey,) in rows]
    subjects = _find_subjects(conn, actor, likes)
    # The like itself takes the place of a subject that is no post: it is never shown.
    return [
        Entry(SkeletonItem(subjects.get(like, like)), [like.rkey]) for like in likes
    ]


def _find_subjects(
    conn: Conn, actor: int, likes: list[Address]
) -> Mapping[Address, Address]:
    """Return the liked posts by like, each for one like only."""
    records = load_records(conn, likes, Allowance(_LIKE_BYTES, _LIKE_ITEMS))
    uris = {}
    for like, record in records.items():
        subject = record.value.get("subject")
        uri = subject.get("uri") if isinstance(subject, dict) else None
        if isinstance(uri, str) and is_at_uri(uri):
            uris[like] = uri
    found = find_addresses(conn, uris.values())
    subjects = {like: found[uri] for like, uri in uris.items() if uri in found}
    # A second like of the same post has no edge.
    rows = conn.execute(
        f"""
        SELECT x.like_rkey
        FROM unnest(%s::int8[], %s::int4[], %s::int8[]) AS x (like_rkey, a, k)
        JOIN {partition_of(LIKE_SUBJECT)} l
          ON l.target_rkey = x.k AND l.target_actor = x.a AND l.actor = %s
        WHERE l.path = %s AND l.target_collection = %s AND l.rkey = x.like_rkey
        """,
        (
            *int_columns(
                [(like.rkey, a.actor, a.rkey) for like, a in subjects.items()], 3
            ),
            actor,
            LIKE_SUBJECT,
            POST,
        ),
    )
    counted = {row[0] for row in rows}
    return {like: a for like, a in subjects.items() if like.rkey in counted}
