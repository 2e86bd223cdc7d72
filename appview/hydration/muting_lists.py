"""Accounts that the viewer mutes by a list."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from appview.hydration.blocks import MODERATION_LIST
from appview.session import Session
from storage.collections import COLLECTION_IDS, GRAPH_LIST
from storage.records.addresses import Address, find_addresses
from storage.states import STATUS_ACTIVE

_LIST: Final = COLLECTION_IDS[GRAPH_LIST]


def load_muting_lists(session: Session, actors: Collection[int]) -> dict[int, Address]:
    """Return the muted list that each of these accounts is in, if any.

    A moderation list counts while it exists and its owner is shown. The viewer is
    never muted.
    """
    uris = session.private.muted_lists
    others = [actor for actor in actors if actor != session.viewer_actor]
    if not uris or not others:
        return {}
    lists = [a for a in find_addresses(session.conn, uris).values() if _is_list(a)]
    rows = session.conn.execute(
        """
        SELECT DISTINCT ON (i.subject) i.subject, m.actor, m.rkey
        FROM unnest(%s::int4[], %s::int8[]) AS m (actor, rkey)
        JOIN list ON list.actor = m.actor AND list.rkey = m.rkey
        JOIN actor AS owner ON owner.id = m.actor
        CROSS JOIN unnest(%s::int4[]) AS x (subject)
        JOIN list_item i ON i.subject = x.subject
          AND i.list_actor = m.actor AND i.list_rkey = m.rkey
        WHERE owner.takedown IS NULL AND owner.upstream_status = %s
          AND list.purpose = %s
        ORDER BY i.subject, m.actor, m.rkey
        """,
        (
            [a.actor for a in lists],
            [a.rkey for a in lists],
            others,
            STATUS_ACTIVE,
            MODERATION_LIST,
        ),
    )
    return {subject: Address(owner, _LIST, rkey) for subject, owner, rkey in rows}


def _is_list(address: Address) -> bool:
    return address.collection == _LIST
