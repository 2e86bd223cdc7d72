"""Records of notifications, and the posts between a reply and its ancestor."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from appview.hydration.records import POST, STARTER_PACK, Post
from appview.hydration.references import reference_uri
from appview.hydration.state import State
from appview.skeletons.notifications import Notice, Reason, Slot
from storage.records.addresses import Address, find_addresses

VIA: Final = "via"
_MOST_BETWEEN: Final = 3
"""Replies between one that notifies and the furthest ancestor."""


def load_notices(state: State, notices: Collection[Notice]) -> None:
    """Load the records and accounts of notices, and the records they are about."""
    records = {notice.record for notice in notices}
    subjects = {c.subject for n in notices for c in n.causes if c.subject is not None}
    others = {a for a in records if a.collection != POST}
    with state.together():
        state.load_actors(notice.actor for notice in notices)
        state.load_posts({a for a in subjects if a.collection == POST}, quotes=0)
        state.load_posts({a for a in records if a.collection == POST}, quotes=1)
        state.load_records(others | {a for a in subjects if a.collection != POST})
        state.load_record_labels(others)
        state.name(records)
        _load_between(state, notices)
        _load_packs(state, notices)


def _load_between(state: State, notices: Collection[Notice]) -> None:
    pairs = [
        (notice.record, cause.subject)
        for notice in notices
        for cause in notice.causes
        if cause.reason is Reason.REPLY and cause.subject is not None
    ]
    for _ in range(_MOST_BETWEEN):
        between = {
            address
            for record, subject in pairs
            if record in state.posts
            for address in replies_between(state, state.posts[record], subject)
        }
        if between <= state.posts.keys():
            return
        state.load_posts(between, quotes=0)


def replies_between(state: State, reply: Post, subject: Address) -> list[Address]:
    """Return the loaded posts between a reply and its ancestor, and the next one."""
    found: list[Address] = []
    above = reply.parent
    while above is not None and above != subject and len(found) < _MOST_BETWEEN:
        found.append(above)
        post = state.posts.get(above)
        above = post.parent if post else None
    return found


def _load_packs(state: State, notices: Collection[Notice]) -> None:
    uris = {uri for notice in notices if (uri := via_uri(state, notice))}
    state.by_uri |= find_addresses(state.session.conn, uris - state.by_uri.keys())
    found = [state.by_uri[uri] for uri in uris if uri in state.by_uri]
    state.load_named(a for a in found if a.collection == STARTER_PACK)


def via_uri(state: State, notice: Notice) -> str | None:
    """Return the AT-URI of the record by which an account came to follow the viewer."""
    record = state.records.get(notice.record)
    if notice.slot is not Slot.FOLLOW or record is None:
        return None
    return reference_uri(record, VIA)
