"""Accounts, records and blobs that operators have taken down."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from protocol.data.cid import cid_from_text, cid_to_text
from protocol.errors import InvalidEncodingError
from protocol.syntax import is_at_uri, is_did
from storage.postgres.fetch import fetch_all
from storage.postgres.pool import Conn
from storage.private.decisions import log_decision

MAX_TAKEDOWNS: Final = 200_000
"""Takedowns in force: each reading process holds all of them, about 200 bytes each."""
TAKE_DOWN: Final = "takedown"
UNDO: Final = "undo takedown"


class TooManyTakedownsError(Exception):
    """As many subjects are taken down as may be."""


class InvalidSubjectError(ValueError):
    """A text that names no account, record or blob."""


@dataclass(frozen=True, slots=True)
class Takedown:
    """A takedown in force. `subject` is a DID, an AT-URI, or DID/CID of a blob."""

    subject: str
    reason: str
    taken_at: datetime

    @property
    def kind(self) -> str:
        """Return `account`, `record` or `blob`."""
        if self.subject.startswith("at://"):
            return "record"
        return "blob" if "/" in self.subject else "account"


@dataclass(frozen=True, slots=True)
class TakenDown:
    """All subjects of takedowns, for fast checks."""

    version: int = 0
    accounts: frozenset[str] = frozenset()
    records: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()
    authors: frozenset[str] = field(default=frozenset())
    """Accounts with a record in `records`."""

    def has_blob(self, did: str, cid: bytes) -> bool:
        """Return True if a blob of an account is taken down."""
        return bool(self.blobs) and blob_subject(did, cid) in self.blobs

    def hides(self, subject: str) -> bool:
        """Return True if a DID or AT-URI is taken down, or the account of it."""
        return subject in self.accounts or self.has_record(subject)

    def has_record(self, uri: str) -> bool:
        """Return True if a record or its account is taken down."""
        if uri in self.records:
            return True
        return uri.removeprefix("at://").partition("/")[0] in self.accounts


NOTHING: Final = TakenDown()


def blob_subject(did: str, cid: bytes) -> str:
    """Return the subject of a blob."""
    return f"{did}/{cid_to_text(cid)}"


def parse_subject(text: str) -> str:
    """Return the subject that a text names. Raises InvalidSubjectError."""
    if is_did(text):
        return text
    if text.startswith("at://"):
        did, _, path = text.removeprefix("at://").partition("/")
        if is_at_uri(text) and is_did(did) and path.count("/") == 1:
            return text
    else:
        did, _, cid = text.rpartition("/")
        if is_did(did):
            try:
                return blob_subject(did, cid_from_text(cid))
            except InvalidEncodingError:
                pass
    raise InvalidSubjectError(
        f"{text[:200]!r} is neither a DID, nor the AT-URI of a record with a DID, nor"
        " DID/CID of a blob"
    )


def take_down(conn: Conn, subject: str, *, operator: str, reason: str) -> str | None:
    """Take a subject down; return the reason before, None if there was none.

    Does not commit. Raises TooManyTakedownsError.
    """
    _, now = log_decision(
        conn, operator=operator, action=TAKE_DOWN, subject=subject, reason=reason
    )
    before = find_reason(conn, subject)
    saved = conn.execute(
        """
        INSERT INTO takedown (subject, reason, taken_at)
        SELECT %(subject)s, %(reason)s, %(now)s
        WHERE %(known)s OR (SELECT count(*) FROM takedown) < %(most)s
        ON CONFLICT (subject) DO UPDATE SET reason = excluded.reason
        """,
        {
            "subject": subject,
            "reason": reason,
            "now": now,
            "known": before is not None,
            "most": MAX_TAKEDOWNS,
        },
    ).rowcount
    if not saved:
        raise TooManyTakedownsError(
            f"{MAX_TAKEDOWNS} subjects are taken down; undo some, or use labels"
        )
    return before


def undo_takedown(
    conn: Conn, subject: str, *, operator: str, reason: str
) -> str | None:
    """End a takedown; return its reason, None if there was none. Does not commit."""
    before = find_reason(conn, subject)
    if before is not None:
        log_decision(
            conn, operator=operator, action=UNDO, subject=subject, reason=reason
        )
        conn.execute("DELETE FROM takedown WHERE subject = %s", (subject,))
    return before


def find_reason(conn: Conn, subject: str) -> str | None:
    """Return the reason of a takedown in force."""
    row = conn.execute(
        "SELECT reason FROM takedown WHERE subject = %s", (subject,)
    ).fetchone()
    return row[0] if row else None


def find_account_reasons(conn: Conn) -> dict[str, str]:
    """Return DID -> reason of all accounts that are taken down."""
    rows = conn.execute("SELECT subject, reason FROM takedown WHERE subject !~ '/'")
    return {subject: reason for subject, reason in rows}


def load_takedowns(
    conn: Conn, *, limit: int = MAX_TAKEDOWNS, newest: bool = False
) -> list[Takedown]:
    """Return takedowns in force, by subject or the newest first."""
    order = "taken_at DESC, subject" if newest else "subject"
    return fetch_all(
        conn,
        Takedown,
        f"SELECT subject, reason, taken_at FROM takedown ORDER BY {order} LIMIT %s",
        (limit,),
    )


def load_taken_down(conn: Conn, version: int) -> TakenDown:
    """Return the subjects of all takedowns; `version` is the last decision's number."""
    subjects = [s for (s,) in conn.execute("SELECT subject FROM takedown")]
    records = frozenset(s for s in subjects if s.startswith("at://"))
    others = [s for s in subjects if s not in records]
    return TakenDown(
        version,
        frozenset(s for s in others if "/" not in s),
        records,
        frozenset(s for s in others if "/" in s),
        frozenset(s.removeprefix("at://").partition("/")[0] for s in records),
    )
