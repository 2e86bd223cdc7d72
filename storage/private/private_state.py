"""The private state of a viewer that views and rules depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from storage.postgres.pool import Conn
from storage.private.mutes import Mute, mute_of
from storage.private.private_items import MOST, Kind
from storage.private.sealing import Account

POSTS: Final = 1
REPLIES: Final = 2
"""Flags of an activity subscription."""
_BY_HASH: Final = (
    Kind.MUTE,
    Kind.LIST_MUTE,
    Kind.THREAD_MUTE,
    Kind.BOOKMARK,
    Kind.ACTIVITY_SUBSCRIPTION,
)


class Subscription(NamedTuple):
    """The activity of an account that the viewer is notified of."""

    post: bool
    reply: bool


@dataclass(frozen=True, slots=True)
class PrivateState:
    """Mutes, bookmarks and subscriptions of a viewer, by keyed hashes of subjects.

    `muted_lists` are the AT-URIs of muted lists.
    """

    account: Account | None = None
    muted_lists: tuple[str, ...] = ()
    _flags: Mapping[Kind, Mapping[int, int]] = field(default_factory=dict)

    def mute_of(self, did: str) -> Mute | None:
        """Return the mute of an account, None if it is not muted by itself."""
        flags = self._find(Kind.MUTE, did)
        return None if flags is None else mute_of(flags)

    def is_list_muted(self, uri: str) -> bool:
        """Return True if the viewer mutes a list."""
        return self._find(Kind.LIST_MUTE, uri) is not None

    def is_thread_muted(self, root_uri: str) -> bool:
        """Return True if the viewer mutes the thread of a root post."""
        return self._find(Kind.THREAD_MUTE, root_uri) is not None

    def is_bookmarked(self, uri: str) -> bool:
        """Return True if the viewer has bookmarked a post."""
        return self._find(Kind.BOOKMARK, uri) is not None

    def subscription(self, did: str) -> Subscription | None:
        """Return the viewer's subscription to the activity of an account."""
        flags = self._find(Kind.ACTIVITY_SUBSCRIPTION, did)
        if flags is None:
            return None
        return Subscription(bool(flags & POSTS), bool(flags & REPLIES))

    def _find(self, kind: Kind, subject: str) -> int | None:
        held = self._flags.get(kind)
        if not held or self.account is None:
            return None
        return held.get(self.account.subject(subject))


NOTHING: Final = PrivateState()


def load_private_state(conn: Conn, account: Account) -> PrivateState:
    """Return the state of a viewer, in one query. Only muted lists are decrypted."""
    rows = conn.execute(
        """
        SELECT kind, array_agg(subject), array_agg(flags),
               array_agg(sealed) FILTER (WHERE kind = %(lists)s)
        FROM (
            SELECT i.kind, i.subject, i.flags, i.sealed
            FROM unnest(%(kinds)s::int2[], %(most)s::int4[]) AS k (kind, most)
            CROSS JOIN LATERAL (
                SELECT p.kind, p.subject, p.flags,
                       CASE WHEN p.kind = %(lists)s THEN p.sealed END AS sealed
                FROM private_item p
                WHERE p.account = %(account)s AND p.kind = k.kind
                LIMIT k.most
            ) AS i
        ) AS found GROUP BY kind
        """,
        {
            "lists": Kind.LIST_MUTE,
            "kinds": [*_BY_HASH],
            "most": [MOST[kind] for kind in _BY_HASH],
            "account": account.id,
        },
        binary=True,
    ).fetchall()
    if not rows:
        return PrivateState(account)
    flags: dict[Kind, dict[int, int]] = {}
    lists: list[str] = []
    for number, subjects, values, sealed in rows:
        kind = Kind(number)
        flags[kind] = dict(zip(subjects, values, strict=True))
        for subject, content in zip(subjects, sealed or (), strict=False):
            lists.append(account.open(kind, subject, content)["subject"])
    return PrivateState(account, tuple(lists), flags)
