"""Records of an account that are newer than a revision of its repo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pds.exceptions import RecordNotFoundError
from pds.repo.record_reads import find_record
from pds.server.accounts import Account
from protocol.data.cbor import decode
from protocol.data.cid import cid_to_text
from protocol.data.json_form import to_json
from protocol.errors import ProtocolError
from protocol.lexicon import Catalog
from protocol.syntax import Tid, datetime_from_us, tid_time_us
from storage.postgres.pool import Conn

POST: Final = "app.bsky.feed.post"
PROFILE: Final = "app.bsky.actor.profile"
MAX_LOCAL: Final = 10
"""Records that are shown ahead of an indexer: the newest."""
_MAX_BLOCKS: Final = 1_000
"""Newest blocks among which they are looked for: tree nodes and other records."""


@dataclass(frozen=True, slots=True)
class LocalPost:
    """A post that the indexer may lack; `record` is in JSON form."""

    uri: str
    cid: str
    indexed_us: int
    record: dict[str, Any]

    @property
    def indexed_at(self) -> str:
        """Return the time of the write."""
        return datetime_from_us(self.indexed_us)

    @property
    def root(self) -> str | None:
        """Return the AT-URI of the first post of its thread, None for a root."""
        return self._reply("root")

    @property
    def parent(self) -> str | None:
        """Return the AT-URI of the post that it replies to."""
        return self._reply("parent")

    def _reply(self, part: str) -> str | None:
        reply = self.record.get("reply")
        return None if reply is None else reply[part]["uri"]


@dataclass(frozen=True, slots=True)
class LocalRecords:
    """Records written after a revision.

    `profile` is the current profile, `has_new_profile` if it is newer too. `posts` are
    the newest, in the order of their writes.
    """

    account: Account
    profile: dict[str, Any] | None
    has_new_profile: bool
    posts: tuple[LocalPost, ...]
    oldest_us: int
    """Time of the oldest of them, in microseconds since 1970."""


def read_local(
    conn: Conn, catalog: Catalog, account: Account, rev: Tid
) -> LocalRecords | None:
    """Return what was written after `rev`, None for nothing that views show.

    Records that do not follow their lexicon are left out.
    """
    rows = conn.execute(
        """
        WITH recent AS MATERIALIZED (
            SELECT cid, value, rev FROM block
            WHERE account = %(account)s AND rev > %(rev)s
            ORDER BY rev DESC LIMIT %(blocks)s
        )
        SELECT r.path, r.cid, recent.value, recent.rev
        FROM recent JOIN record r ON r.account = %(account)s AND r.cid = recent.cid
        WHERE r.path = %(profile)s OR r.path > %(low)s AND r.path < %(high)s
        ORDER BY recent.rev DESC, r.path DESC LIMIT %(limit)s
        """,
        {
            "account": account.id,
            "rev": rev,
            "blocks": _MAX_BLOCKS,
            "profile": f"{PROFILE}/self",
            # "0" follows "/" in ASCII.
            "low": f"{POST}/",
            "high": f"{POST}0",
            "limit": MAX_LOCAL,
        },
    ).fetchall()
    if not rows:
        return None
    posts = []
    for path, cid, value, written in reversed(rows):
        record = _read(catalog, POST, value) if path.startswith(POST) else None
        if record is not None:
            uri, time_us = f"at://{account.did}/{path}", tid_time_us(Tid(written))
            posts.append(LocalPost(uri, cid_to_text(cid), time_us, record))
    return LocalRecords(
        account,
        _read_profile(conn, catalog, account),
        any(row[0].startswith(PROFILE) for row in rows),
        tuple(posts),
        tid_time_us(Tid(rows[-1][3])),
    )


def _read_profile(
    conn: Conn, catalog: Catalog, account: Account
) -> dict[str, Any] | None:
    try:
        found = find_record(conn, account.id, PROFILE, "self")
    except RecordNotFoundError:
        return None
    return _read(catalog, PROFILE, found.value)


def _read(catalog: Catalog, nsid: str, value: bytes) -> dict[str, Any] | None:
    """Return a record in JSON form if it follows its lexicon."""
    record = decode(value)
    try:
        catalog.validate_record(nsid, record)
    except ProtocolError:
        return None
    shown: dict[str, Any] = to_json(record)
    return shown
