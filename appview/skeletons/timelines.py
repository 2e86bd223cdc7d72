"""Entries of the home timeline, and of the feed of a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appview.hydration.records import LIST
from appview.paging import Entry, Keyset, Source
from appview.pipeline import Params
from appview.session import Session
from appview.skeletons.thread import find_post
from feeds.account_merge import followed_accounts, merge_accounts
from feeds.skeleton import SkeletonItem
from storage.postgres.pool import Conn
from storage.records.addresses import Address

MAX_MEMBERS: Final = 10_000
"""Newest members of a list whose posts are in its feed."""


def home_timeline(session: Session, _: Params) -> Source[SkeletonItem]:
    """Return posts and reposts of the viewer and of the accounts it follows."""
    viewer = session.viewer_actor
    if viewer is None:
        return Source(lambda after, limit: [])
    accounts = {viewer, *followed_accounts(session.conn, viewer)}
    return _merged(session.conn, [*accounts], reposts=True)


def list_feed(session: Session, params: Params) -> Source[SkeletonItem]:
    """Return posts of the members of a list; its owner is the first subject."""
    found = find_post(session, params["list"])
    if found is None or found.collection != LIST:
        return Source(lambda after, limit: [])
    members = _find_members(session.conn, found)
    return _merged(session.conn, members, reposts=False, subject=found)


def _merged(
    conn: Conn,
    accounts: Sequence[int],
    *,
    reposts: bool,
    subject: Sequence[int] = (),
) -> Source[SkeletonItem]:
    def fetch(after: Keyset | None, limit: int) -> list[Entry[SkeletonItem]]:
        entries = merge_accounts(conn, accounts, after, limit, reposts=reposts)
        return [Entry(entry.item, entry.keyset) for entry in entries]

    return Source(fetch, subject)


def _find_members(conn: Conn, list_: Address) -> list[int]:
    rows = conn.execute(
        """
        SELECT DISTINCT subject FROM (
            SELECT subject FROM list_item
            WHERE list_actor = %s AND list_rkey = %s ORDER BY rkey DESC LIMIT %s
        ) AS newest
        """,
        (list_.actor, list_.rkey, MAX_MEMBERS),
    )
    return [row[0] for row in rows]
