"""Notices follow from records: replays, deletes and new records neither lose nor double
any."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from index_dump import Documents
from indexer_world import NOW, author, follow, like, quote, reply, repost
from indexer_world import post as root_post

from appview.skeletons.notifications import Notice, Reason, find_notices
from indexer.apply import apply_batch
from indexer.collections.texts import TEXTS
from protocol.events.event import AccountEvent
from protocol.syntax import tid_to_int
from search.drain import drain_outbox
from storage.postgres.pool import Conn
from storage.records.interning import Interner

FEED = "app.bsky.feed."
KEY = "3kabcdefghi2a"


class Inbox:
    """The notices of the first of three accounts."""

    def __init__(self, conn: Conn, interner: Interner) -> None:
        self.conn, self.interner = conn, interner
        self.me, self.one, self.other = (author(number) for number in range(3))
        self.uri = self.me.uri(f"{FEED}post/{KEY}")

    def apply(self, *events: Any) -> None:
        apply_batch(self.conn, self.interner, events, {1: 1}, NOW)

    def find(self, **asked: Any) -> list[Notice]:
        while drain_outbox(self.conn, Documents(), TEXTS, 50):  # type: ignore[arg-type]
            pass
        me = self.interner.actors([self.me.did])[self.me.did]
        found = find_notices(self.conn, me, Reason, asked.pop("limit", 100), **asked)
        self.conn.rollback()
        return found

    def reasons(self) -> Counter[str]:
        return Counter(c.reason.value for notice in self.find() for c in notice.causes)


@pytest.fixture
def inbox(conn: Conn, interner: Interner) -> Inbox:
    found = Inbox(conn, interner)
    found.apply(found.me.commit({f"{FEED}post/{KEY}": root_post()}))
    return found


def writes(inbox: Inbox) -> dict[str, Any]:
    return {
        f"{FEED}like/{KEY}": like(inbox.uri),
        f"{FEED}repost/{KEY}": repost(inbox.uri),
        f"{FEED}post/3kabcdefghi3a": reply(inbox.uri, inbox.uri),
        f"{FEED}post/3kabcdefghi4a": quote(inbox.uri),
        f"app.bsky.graph.follow/{KEY}": follow(inbox.me.did),
        "app.bsky.graph.verification/self": {
            "$type": "app.bsky.graph.verification",
            "subject": inbox.me.did,
            "handle": "a.test",
            "displayName": "a",
            "createdAt": "2026-02-01T10:00:00.000Z",
        },
    }


ALL = dict.fromkeys(("like", "repost", "reply", "quote", "follow", "verified"), 1)


def test_replayed_batch_changes_nothing(inbox: Inbox) -> None:
    event = inbox.one.commit(writes(inbox))
    inbox.apply(event)
    before = inbox.find()
    inbox.apply(event)
    inbox.apply(event, event)
    assert inbox.find() == before
    assert inbox.reasons() == ALL


def test_deleted_records_take_their_notices_along(inbox: Inbox) -> None:
    inbox.apply(inbox.one.commit(writes(inbox)))
    inbox.apply(inbox.one.commit(dict.fromkeys(writes(inbox))))
    assert inbox.reasons() == {"unverified": 1}
    inbox.apply(inbox.one.commit(writes(inbox)))
    assert inbox.reasons() == ALL


def test_updated_record_keeps_one_notice(inbox: Inbox) -> None:
    inbox.apply(inbox.one.commit(writes(inbox)))
    path = f"{FEED}post/3kabcdefghi3a"
    inbox.apply(inbox.one.commit({path: reply(inbox.uri, inbox.uri, "edited")}))
    assert inbox.reasons() == ALL


def test_second_like_of_an_account_is_no_second_notice(inbox: Inbox) -> None:
    first, second = f"{FEED}like/{KEY}", f"{FEED}like/3kabcdefghi5a"
    inbox.apply(inbox.one.commit({first: like(inbox.uri), second: like(inbox.uri)}))
    assert inbox.reasons() == {"like": 1}
    inbox.apply(inbox.one.commit({first: None}))
    assert inbox.reasons() == {"like": 1}
    inbox.apply(inbox.one.commit({second: None}))
    assert inbox.reasons() == {}


def test_deleted_account_leaves_no_notices(inbox: Inbox) -> None:
    from indexer.account import purge_deleted

    inbox.apply(inbox.one.commit(writes(inbox)))
    inbox.apply(AccountEvent(inbox.one.did, False, "deleted", host=1))
    purge_deleted(inbox.conn, inbox.interner, NOW, limit=1)
    assert inbox.find() == []


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_pages_with_equal_times_and_keys_hold_each_notice_once(
    inbox: Inbox, limit: int
) -> None:
    inbox.apply(inbox.one.commit(writes(inbox)), inbox.other.commit(writes(inbox)))
    whole = inbox.find()
    assert len(whole) == 12
    assert len({notice.key for notice in whole}) == 12
    paged: list[Notice] = []
    for _ in range(20):
        page = inbox.find(limit=limit, after=paged[-1].key if paged else None)
        paged += page
        if len(page) < limit:
            break
    assert paged == whole


def test_odd_times_and_keys_are_paged(inbox: Inbox) -> None:
    made = {
        f"{FEED}post/{rkey}": reply(inbox.uri, inbox.uri) | {"createdAt": f"{year}"}
        for rkey, year in (
            ("self", "1066-10-14T00:00:00.000001Z"),
            ("odd.key", "2148-01-01T00:00:00Z"),
            ("3kabcdefghi3a", "0001-01-01T00:00:00Z"),
        )
    }
    inbox.apply(inbox.one.commit(made))
    paged: list[Notice] = []
    for _ in range(5):
        paged += inbox.find(limit=1, after=paged[-1].key if paged else None)
    assert [notice.rkey > 0 for notice in paged] == [False, False, True]
    assert paged[-1].rkey == tid_to_int("3kabcdefghi3a")
