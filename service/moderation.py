"""Decisions of operators: takedowns and labels, from commands and the admin page.

They are private state. The index holds copies: of account takedowns, and of labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from indexer.account import set_takedown
from labels.own_labels import OwnLabels, copy_own_labels
from labels.signed_label import SignedLabel
from service.runtime.config import Config
from service.runtime.databases import INDEX, PRIVATE, open_database, open_existing
from service.runtime.secrets import label_key
from storage.change_log import CHANGED, log_addresses
from storage.postgres.pool import Pool, open_pool
from storage.private import takedowns
from storage.private.decisions import load_decisions
from storage.private.private_store import PrivateStore
from storage.private.reports import prune_reports
from storage.records.addresses import find_actors, find_addresses
from storage.records.interning import Interner

ADOPTED: Final = "adopted from the index"


@dataclass(frozen=True, slots=True)
class Moderation:
    """The decisions of this service, with the copies in its index."""

    config: Config
    pool: Pool
    private: PrivateStore
    interner: Interner

    def take_down(self, subject: str, *, operator: str, reason: str) -> str | None:
        """Take a subject down; return the reason before, None if there was none.

        Raises TooManyTakedownsError.
        """
        with self.private.write() as conn:
            before = takedowns.take_down(
                conn, subject, operator=operator, reason=reason
            )
        self._copy_account(subject, reason)
        self._log_record(subject)
        return before

    def undo(self, subject: str, *, operator: str, reason: str) -> str | None:
        """End a takedown; return its reason, None if there was none."""
        with self.private.write() as conn:
            before = takedowns.undo_takedown(
                conn, subject, operator=operator, reason=reason
            )
        if before is None:
            before = self._adopted_reason(subject)
        self._copy_account(subject, None)
        self._log_record(subject)
        return before

    def issue(
        self,
        uri: str,
        val: str,
        *,
        operator: str,
        reason: str,
        cid: bytes = b"",
        exp: datetime | None = None,
        neg: bool = False,
    ) -> SignedLabel | None:
        """Issue a label, or with `neg` end it; return None if there is none to end.

        Raises LabelError.
        """
        own = OwnLabels(self.private, self.config.provider_did, label_key(self.config))
        label = own.issue(
            uri, val, operator=operator, reason=reason, cid=cid, exp=exp, neg=neg
        )
        self.copy_labels()
        return label

    def copy_labels(self) -> None:
        """Copy issued labels into the index."""
        did = self.config.provider_did
        while copy_own_labels(self.private, self.pool, self.interner, did):
            pass

    def apply(self) -> int:
        """Bring the copies in the index up to date, also of a new index.

        Returns the number of accounts that changed. Takedowns of earlier versions, in
        the index alone, are adopted.
        """
        self.copy_labels()
        with self.private.write() as conn:
            prune_reports(conn)
            wanted = takedowns.find_account_reasons(conn)
        with self.pool.connection() as conn:
            held = dict(
                conn.execute(
                    "SELECT did, takedown FROM actor WHERE takedown IS NOT NULL"
                ).fetchall()
            )
            missing = {did for did, why in wanted.items() if held.get(did) != why}
            known = find_actors(conn, missing)
        for did in known:
            self._copy_account(did, wanted[did])
        for did in held.keys() - wanted.keys():
            self._adopt(did, held[did])
        return len(known)

    def _adopt(self, did: str, reason: str) -> None:
        with self.private.write() as conn:
            decided = load_decisions(conn, limit=1, subject=did)
            if not decided:
                takedowns.take_down(conn, did, operator=ADOPTED, reason=reason)
        if decided:
            # The undo was not copied before the process ended.
            self._copy_account(did, None)

    def _adopted_reason(self, subject: str) -> str | None:
        with self.pool.connection() as conn:
            row = conn.execute(
                "SELECT takedown FROM actor WHERE did = %s", (subject,)
            ).fetchone()
        return row[0] if row else None

    def _log_record(self, subject: str) -> None:
        """Tell exports that a record is hidden, or shown again."""
        with self.pool.connection() as conn:
            log_addresses(conn, find_addresses(conn, [subject]).values(), CHANGED)

    def _copy_account(self, subject: str, reason: str | None) -> None:
        if "/" in subject:
            return
        with self.pool.connection() as conn:
            row = conn.execute(
                "SELECT id FROM actor WHERE did = %s AND takedown IS DISTINCT FROM %s",
                (subject, reason),
            ).fetchone()
            conn.commit()
            if row is not None:
                set_takedown(conn, row[0], reason, rebroadcast=self.config.event_log)


@contextmanager
def open_moderation(config: Config) -> Iterator[Moderation]:
    """Open the databases of this home for a command."""
    with (
        open_existing(config, INDEX, start=True) as url,
        open_database(config, PRIVATE) as private_url,
        open_pool(url, max=1) as pool,
        open_pool(url, max=1) as names,
        open_pool(private_url, max=1) as private,
    ):
        yield Moderation(
            config, pool, PrivateStore(private), Interner(names, cache_size=1_000)
        )
