"""Marks of accounts: verifications by trusted accounts, and times of statuses.

An account has one verification by each trusted verifier, so that no number of other
records slows it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from appview.hydration.actors import load_actors
from appview.hydration.records import Record, load_records
from storage.collections import (
    ACTOR_STATUS,
    COLLECTION_IDS,
    GRAPH_VERIFICATION,
    NO_COLLECTION,
    NO_RKEY,
    RKEY_SELF,
    VERIFICATION_SUBJECT,
)
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.links import DEFAULT_PARTITION
from storage.records.listing import fetch_listed

if TYPE_CHECKING:
    from appview.hydration.state import State

VERIFICATION: Final = COLLECTION_IDS[GRAPH_VERIFICATION]


@dataclass(frozen=True, slots=True)
class Verification:
    """A record by which a trusted account vouches for another."""

    record: Record
    sort_at: datetime


@dataclass(slots=True)
class AccountMarks:
    """Verifications and times of statuses of loaded accounts."""

    verifications: dict[int, list[Verification]] = field(default_factory=dict)
    """The oldest first."""
    status_times: dict[int, datetime] = field(default_factory=dict)
    """Times at which statuses were first indexed."""

    def load(self, state: State, ids: Collection[int]) -> None:
        """Load the marks of accounts whose own records are loaded."""
        statuses = [
            Address(actor, COLLECTION_IDS[ACTOR_STATUS], RKEY_SELF)
            for actor in ids
            if (actor, ACTOR_STATUS) in state.declarations
        ]
        found = fetch_listed(state.session.conn, statuses)
        self.status_times |= {address.actor: at for address, at in found.items()}
        trusted = state.session.app.trusted_verifiers
        if trusted:
            self._load_verifications(state, ids, trusted)

    def _load_verifications(
        self, state: State, ids: Iterable[int], verifiers: Collection[str]
    ) -> None:
        conn = state.session.conn
        rows = _find(conn, ids, verifiers)
        records = load_records(
            conn, [address for _, address, _ in rows], state.profile_allowance
        )
        for subject, address, sort_at in rows:
            if address in records:
                found = Verification(records[address], sort_at)
                self.verifications.setdefault(subject, []).append(found)
        state.name(records)
        issuers = {address.actor for address in records} - state.actors.keys()
        if issuers:
            state.actors |= load_actors(conn, issuers)


def _find(
    conn: Conn, subjects: Iterable[int], verifiers: Collection[str]
) -> list[tuple[int, Address, datetime]]:
    """Return the newest verification of each subject by each verifier."""
    rows = conn.execute(
        f"""
        SELECT s.id, v.id, l.rkey, l.sort_at
        FROM unnest(%s::int4[]) AS s (id)
        CROSS JOIN (SELECT id FROM actor WHERE did = ANY(%s)) AS v
        CROSS JOIN LATERAL (
            SELECT rkey, sort_at FROM {DEFAULT_PARTITION}
            WHERE path = {VERIFICATION_SUBJECT} AND target_actor = s.id
              AND actor = v.id AND target_rkey = {NO_RKEY}
              AND target_collection = {NO_COLLECTION}
            ORDER BY rkey DESC LIMIT 1
        ) l
        ORDER BY l.sort_at, v.id
        """,
        ([*subjects], [*verifiers]),
    )
    return [
        (subject, Address(issuer, VERIFICATION, rkey), sort_at)
        for subject, issuer, rkey, sort_at in rows
    ]
