"""Accounts of the reference PDS: their writes, and the comparison with our index."""

from __future__ import annotations

import base64
import itertools
import random
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from reference_network import PASSWORD, get, post

from audit.repo_audit import rebuild_root
from protocol.data.cid import cid_for, cid_to_text
from protocol.repo.commit import parse_commit

ADMIN_PASSWORD = "admin-pass"  # of the reference development network
POST = "app.bsky.feed.post"
FOLLOW = "app.bsky.graph.follow"
PROFILE = "app.bsky.actor.profile"
PLANT = "org.example.garden.plant"


@dataclass
class Account:
    """One account of the reference PDS."""

    did: str
    handle: str
    token: str
    status: str = "active"
    uris: list[str] = field(default_factory=list)
    follows: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class Network:
    """The addresses of all servers, and the accounts."""

    plc: str
    pds: str
    provider: str
    provider_did: str
    database: str
    start: Callable[[str], Any]
    accounts: list[Account] = field(default_factory=list)
    writes: int = 0
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _cids: dict[str, str] = field(default_factory=dict)

    def move_in(self, name: str) -> Account:
        made = post(
            self.pds,
            "com.atproto.server.createAccount",
            {
                "handle": f"{name}.test",
                "email": f"{name}@example.com",
                "password": PASSWORD,
            },
        )
        account = Account(made["did"], made["handle"], made["accessJwt"])
        self.accounts.append(account)
        return account

    def call(self, account: Account, nsid: str, body: Any = None) -> Any:
        """Call a procedure as the account."""
        self.writes += 1
        return post(self.pds, nsid, body, token=account.token)

    def administer(self, nsid: str, body: Any) -> Any:
        """Call a procedure as the operator of the PDS."""
        secret = base64.b64encode(f"admin:{ADMIN_PASSWORD}".encode()).decode()
        return post(self.pds, nsid, body, authorization=f"Basic {secret}")

    def write(self, account: Account, collection: str, record: dict[str, Any]) -> str:
        body = {"repo": account.did, "collection": collection, "record": record}
        made = self.call(account, "com.atproto.repo.createRecord", body)
        uri: str = made["uri"]
        self._cids[uri] = made["cid"]
        account.uris.append(uri)
        return uri

    def cid(self, uri: str) -> str:
        """Return the CID of a record as it was written."""
        return self._cids[uri]

    def create(self, account: Account, rng: random.Random) -> None:
        """Create a record of one of four collections, one of them unknown."""
        number = next(self._numbers)
        now = f"2026-11-{1 + number % 28:02d}T10:00:00.000Z"
        kind = rng.randrange(4)
        subject = rng.choice(self.accounts).did
        # The PDS deletes the first of two follows of one account.
        if kind == 0 and subject not in account.follows:
            account.follows.add(subject)
            self.write(account, FOLLOW, {"subject": subject, "createdAt": now})
        elif kind == 1:
            self.write(account, PLANT, {"name": f"plant {number}", "createdAt": now})
        else:
            words = rng.choice(["日本語", "wörter", "🦘"])
            text = f"reference post {number} {words}"
            self.write(account, POST, {"text": text, "createdAt": now})

    def update(self, account: Account, rng: random.Random) -> None:
        """Change the profile or another record."""
        plants = [uri for uri in account.uris if f"/{PLANT}/" in uri]
        record = {"displayName": f"Name {next(self._numbers)}"}
        collection, rkey = PROFILE, "self"
        if plants and rng.randrange(2):
            collection, rkey = rng.choice(plants).split("/")[3:]
            record = {"name": f"regrown {next(self._numbers)}"}
        self.call(
            account,
            "com.atproto.repo.putRecord",
            {
                "repo": account.did,
                "collection": collection,
                "rkey": rkey,
                "record": record,
            },
        )

    def delete(self, account: Account, rng: random.Random) -> None:
        """Delete one record, or three in one commit."""
        some = account.uris[:: -max(1, len(account.uris) // 3)][:3]
        some = some if rng.randrange(2) else some[:1]
        account.uris = [uri for uri in account.uris if uri not in some]
        writes = [
            {
                "$type": "com.atproto.repo.applyWrites#delete",
                "collection": uri.split("/")[3],
                "rkey": uri.split("/")[4],
            }
            for uri in some
        ]
        if writes:
            body = {"repo": account.did, "writes": writes}
            self.call(account, "com.atproto.repo.applyWrites", body)

    def active(self) -> list[Account]:
        return [account for account in self.accounts if account.status == "active"]

    def act(self, kinds: str, count: int, seed: int) -> None:
        """Do `count` writes in parallel, in order for each account."""
        rng = random.Random(seed)
        ways = [getattr(self, kind) for kind in kinds.split()]
        jobs = [
            (rng.choice(ways), rng.choice(self.active()), random.Random(n))
            for n in range(count)
        ]

        def run(job: Any) -> None:
            way, account, chance = job
            with account.lock:
                way(account, chance)

        with ThreadPoolExecutor(6) as threads:
            list(threads.map(run, jobs))

    @contextmanager
    def under_load(self, seed: int) -> Iterator[None]:
        """Run two writers until the block ends, on accounts that stay active."""
        stop = threading.Event()
        busy = self.active()[:3]
        failures: list[BaseException] = []

        def run(number: int) -> None:
            rng = random.Random(seed * 10 + number)
            try:
                while not stop.is_set():
                    account = rng.choice(busy)
                    way = rng.choice([self.create, self.create, self.update])
                    with account.lock:
                        way(account, rng)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
            time.sleep(0.5)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not failures, failures

    def head(self, account: Account) -> str:
        """Return the CID of the newest commit."""
        answer = get(self.pds, "com.atproto.sync.getLatestCommit", did=account.did)
        cid: str = answer["cid"]
        return cid

    def difference(self) -> str:
        """Return the first difference, "" for none.

        Active accounts need an equal commit, and rows that rebuild its root.
        Other accounts must have the same status and must not be shown.
        """
        with psycopg.connect(self.database) as conn:
            for account in self.accounts:
                row = conn.execute(
                    "SELECT r.commit, r.state, a.upstream_status, a.handle FROM actor a"
                    " JOIN repo r ON r.actor = a.id WHERE a.did = %s",
                    (account.did,),
                ).fetchone()
                if row is None:
                    return f"{account.handle}: unknown"
                commit, state, status, handle = row
                if status != account.status:
                    return f"{account.handle}: {status}, not {account.status}"
                if status != "active":
                    if self._is_shown(account):
                        return f"{account.handle}: {status} and shown"
                    continue
                if commit is None or cid_to_text(cid_for(commit)) != self.head(account):
                    return f"{account.handle}: another commit"
                if state != "synchronized":
                    return f"{account.handle}: {state}"
                if handle != account.handle:
                    return f"{account.handle}: handle {handle}"
                root = parse_commit(commit).data
                assert rebuild_root(conn, account.did) == root, account.did
                conn.rollback()
        return ""

    def equal(self) -> bool:
        """Return True if our index equals the reference PDS."""
        return not self.difference()

    def _is_shown(self, account: Account) -> bool:
        for nsid, params in (
            ("app.bsky.actor.getProfile", {"actor": account.did}),
            ("com.atproto.sync.getLatestCommit", {"did": account.did}),
        ):
            try:
                get(self.provider, nsid, **params)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code >= 500:
                    raise
            else:
                return True
        return False
