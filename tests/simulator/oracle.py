"""The expected final state of an index, and every difference from it.

Expectations come from the model's own records, by no code of the indexer: accounts,
their hosts and states, record bytes, counts, stream cursors and search documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulated_accounts import ACTIVE, DELETED, SimulatedAccounts

from analytics.activity_rollups import find_miscounts
from bench.fake_accounts import FOLLOW, LIKE, POST, REPOST
from protocol.data.cbor import decode_fast
from protocol.syntax.tid import tid_from_int
from storage.postgres.pool import Conn
from storage.records.record_codec import decompress

_FEW = 8
Post = tuple[str, str]
"""(DID, record key)."""


@dataclass(frozen=True)
class Expected:
    """One account as it should be. `handle` None: not compared."""

    did: str
    rev: str
    data: bytes
    records: Mapping[bytes, bytes]
    home: str
    status: str = ACTIVE
    handle: str | None = None


@dataclass
class Oracle:
    """The expected state of an index; `cursors` maps host URLs to last numbers."""

    accounts: list[Expected]
    cursors: Mapping[str, int] = field(default_factory=dict)
    search: bool = False

    def find_faults(self, conn: Conn) -> list[str]:
        """Return the first few differences of each kind, as lines."""
        kinds = [
            self._repos(conn),
            self._records(conn),
            self._posts(conn),
            self._post_counts(conn),
            self._actor_counts(conn),
            [f"activity: {miscount}" for miscount in find_miscounts(conn)],
            self._left_over(conn),
            self._cursors(conn),
        ]
        if self.search:
            kinds.append(self._search(conn))
        return [fault for faults in kinds for fault in faults[:_FEW]]

    def _living(self) -> list[Expected]:
        return [account for account in self.accounts if account.status != DELETED]

    def _repos(self, conn: Conn) -> list[str]:
        held = {
            row[0]: row[1:]
            for row in conn.execute(
                "SELECT did, repo.actor IS NOT NULL, upstream_status, handle,"
                " repo.state, rev, data, url"
                " FROM actor LEFT JOIN repo ON actor = actor.id"
                " LEFT JOIN host ON host.id = host"
            )
        }
        faults: list[str] = []
        for account in self.accounts:
            admitted, *values = held.get(account.did, (False, *[None] * 6))
            if not admitted and account.status == DELETED:
                # It ended before it was resolved: only its name may be stored.
                continue
            if account.did not in held:
                faults.append(f"{account.did} is unknown")
                continue
            status, handle, state, rev, data, home = values
            wrong = {
                "status": (status, account.status),
                "state": (state, "synchronized"),
                "rev": (rev, account.rev),
                "root": (data, account.data),
                "home": (home, account.home),
                "handle": (handle, account.handle),
            }
            if account.status != ACTIVE:
                del wrong["state"], wrong["rev"], wrong["root"], wrong["home"]
            if account.handle is None or account.status == DELETED:
                del wrong["handle"]
            faults += [
                f"{account.did}: {name} {got!r} instead of {right!r}"
                for name, (got, right) in wrong.items()
                if got != right
            ]
        return faults

    def _records(self, conn: Conn) -> list[str]:
        wanted = {
            (account.did, key.decode()): value
            for account in self._living()
            for key, value in account.records.items()
        }
        faults = []
        for did, nsid, number, text, value in conn.execute(
            "SELECT did, nsid, record.rkey, rkey.text, value FROM record"
            " JOIN actor ON actor.id = record.actor"
            " JOIN collection ON collection.id = record.collection"
            " LEFT JOIN rkey ON rkey.id = record.rkey"
        ):
            path = f"{nsid}/{text or tid_from_int(number)}"
            right = wanted.pop((did, path), None)
            if right is None:
                faults.append(f"{did}/{path} should not be there")
            elif right != decompress(value):
                faults.append(f"{did}/{path} has other bytes")
        return faults + [f"{did}/{path} is missing" for did, path in wanted]

    def _posts(self, conn: Conn) -> list[str]:
        wanted = Counter(
            (account.did, key.partition(b"/")[2].decode())
            for account in self._living()
            for key in account.records
            if key.startswith(POST.encode())
        )
        held = Counter(
            (did, str(tid_from_int(rkey)))
            for did, rkey in conn.execute(
                "SELECT did, rkey FROM post JOIN actor ON actor.id = actor"
            )
        )
        return _compare("rows of posts", held, wanted)

    def _post_counts(self, conn: Conn) -> list[str]:
        wanted: dict[str, Counter[Post]] = {
            name: Counter() for name in ("likes", "reposts", "replies")
        }
        seen: set[tuple[str, str, str]] = set()
        for kind, account, value in self._values():
            if kind == POST:
                subject = value.get("reply", {}).get("parent")
                name = "replies"
            else:
                subject = value.get("subject")
                name = {LIKE: "likes", REPOST: "reposts"}.get(kind, "")
            if name and isinstance(subject, dict):
                # An account likes and reposts a post once.
                once = (kind, account, subject["uri"])
                if kind != POST and once in seen:
                    continue
                seen.add(once)
                did, _, rkey = subject["uri"].removeprefix("at://").split("/")
                wanted[name][did, rkey] += 1
        faults = []
        for name, counts in wanted.items():
            held = Counter(
                {
                    (did, str(tid_from_int(rkey))): n
                    for did, rkey, n in conn.execute(
                        f"SELECT did, rkey, {name} FROM post_stats"
                        f" JOIN actor ON actor.id = actor WHERE {name} <> 0"
                    )
                }
            )
            faults += _compare(name, held, counts)
        return faults

    def _actor_counts(self, conn: Conn) -> list[str]:
        wanted: dict[str, Counter[str]] = {
            name: Counter() for name in ("followers", "follows", "posts")
        }
        seen: set[tuple[str, str]] = set()
        for kind, did, value in self._values():
            if kind == FOLLOW:
                if (did, value["subject"]) in seen:
                    continue
                seen.add((did, value["subject"]))
                wanted["followers"][value["subject"]] += 1
                wanted["follows"][did] += 1
            elif kind == POST:
                wanted["posts"][did] += 1
        faults = []
        for name, counts in wanted.items():
            held = Counter(
                dict(
                    conn.execute(
                        f"SELECT did, {name} FROM actor_stats"
                        f" JOIN actor ON actor.id = actor WHERE {name} <> 0"
                    ).fetchall()
                )
            )
            faults += _compare(name, held, counts)
        return faults

    def _values(self) -> Iterable[tuple[str, str, dict[str, Any]]]:
        for account in self._living():
            for key, value in account.records.items():
                kind = key.partition(b"/")[0].decode()
                if kind in (LIKE, REPOST, FOLLOW, POST):
                    yield kind, account.did, decode_fast(value)

    def _left_over(self, conn: Conn) -> list[str]:
        faults = []
        for what, sql in (
            ("commits still wait", "SELECT count(*) FROM resync_buffer"),
            ("frames were set aside", "SELECT count(*) FROM quarantined_frame"),
            ("search entries still wait", "SELECT count(*) FROM search_outbox"),
        ):
            if "search" in what and not self.search:
                continue
            row = conn.execute(sql).fetchone()
            if row is not None and row[0]:
                faults.append(f"{row[0]} {what}")
        return faults

    def _cursors(self, conn: Conn) -> list[str]:
        held = dict(
            conn.execute(
                "SELECT url, min(seq) FROM host_cursor"
                " JOIN host ON host.id = host GROUP BY url"
            ).fetchall()
        )
        return [
            f"the cursor of {url} is {held.get(url)} instead of {seq}"
            for url, seq in self.cursors.items()
            if held.get(url) != seq
        ]

    def _search(self, conn: Conn) -> list[str]:
        held = set(
            conn.execute("SELECT did FROM search_actor JOIN actor ON id = actor")
        )
        wanted = {(a.did,) for a in self.accounts if a.status == ACTIVE}
        faults = _compare("accounts in search", Counter(held), Counter(wanted))
        documents = Counter(
            (did, str(tid_from_int(rkey)))
            for did, rkey in conn.execute(
                "SELECT did, rkey FROM search_document"
                " JOIN actor ON actor.id = actor"
                " JOIN collection ON collection.id = collection WHERE nsid = %s",
                (POST,),
            )
        )
        posts = Counter(
            (account.did, key.partition(b"/")[2].decode())
            for account in self.accounts
            if account.status == ACTIVE
            for key in account.records
            if key.startswith(POST.encode())
        )
        return faults + _compare("posts in search", documents, posts)


def expected_accounts(
    population: SimulatedAccounts, urls: Mapping[str, str], *, handles: bool = False
) -> list[Expected]:
    """Return what the index should hold of every born account."""
    found = []
    for member in population.members:
        life = population.lives[member.did]
        if member.rev is not None:
            found.append(
                Expected(
                    member.did,
                    member.rev,
                    member.data,
                    dict(member.records),
                    urls[life.home],
                    life.status,
                    life.handle if handles else None,
                )
            )
    return found


def _compare(what: str, held: Counter[Any], wanted: Counter[Any]) -> list[str]:
    return [
        f"{what}: {held[key]} instead of {wanted[key]} of {key}"
        for key in held.keys() | wanted.keys()
        if held[key] != wanted[key]
    ]
