"""Two servers with accounts, and the writes to them."""

from __future__ import annotations

import base64
import itertools
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from reference_network import PASSWORD, post, post_bytes

ADMIN_PASSWORD: Final = "admin-pass"  # of the reference development network
POST: Final = "app.bsky.feed.post"
MISSING_CID: Final = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"
_START: Final = datetime(2026, 9, 1, tzinfo=UTC)

Ref = dict[str, str]


@dataclass
class Account:
    """An account of one of the two servers."""

    name: str
    server: str
    did: str
    handle: str
    token: str


@dataclass
class Stage:
    """Two servers, their accounts, and all records ever written."""

    servers: tuple[str, str]
    settle: Callable[[], object]
    """Wait until the reference AppView has read all that was written."""
    accounts: dict[str, Account] = field(default_factory=dict)
    refs: dict[str, Ref] = field(default_factory=dict)
    uris: list[str] = field(default_factory=list)
    clock: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def move_in(self, name: str, handle: str, server: int) -> Account:
        """Create an account, named `name` here."""
        made = post(
            self.servers[server],
            "com.atproto.server.createAccount",
            {"handle": handle, "email": f"{name}@example.com", "password": PASSWORD},
        )
        account = Account(
            name, self.servers[server], made["did"], handle, made["accessJwt"]
        )
        self.accounts[name] = account
        return account

    def did(self, name: str) -> str:
        """Return the DID of an account by its name here."""
        return self.accounts[name].did

    def uris_of(self, notes: Iterable[str]) -> set[str]:
        """Return the AT-URIs of noted records."""
        return {self.refs[note]["uri"] for note in notes}

    def name(self, text: str) -> str:
        """Return a report with names instead of DIDs and AT-URIs."""
        for note, ref in self.refs.items():
            if note != "generator":
                text = text.replace(ref["uri"], f"<{note}>")
        for account in self.accounts.values():
            text = text.replace(account.did, f"@{account.name}")
        return text

    def now(self) -> str:
        """Return a time one minute after the last one given out."""
        moment = _START + timedelta(minutes=next(self.clock))
        return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")

    def write(
        self,
        name: str,
        collection: str,
        record: dict[str, Any],
        *,
        rkey: str | None = None,
        validate: bool | None = None,
        note: str = "",
    ) -> Ref:
        """Write a record; `note` is the name of its reference in `refs`."""
        account = self.accounts[name]
        body: dict[str, Any] = {"repo": account.did, "collection": collection}
        body["record"] = {"$type": collection, "createdAt": self.now(), **record}
        method = "com.atproto.repo.createRecord"
        if rkey is not None:
            method, body["rkey"] = "com.atproto.repo.putRecord", rkey
        if validate is not None:
            body["validate"] = validate
        made = post(account.server, method, body, token=account.token)
        ref = {"uri": made["uri"], "cid": made["cid"]}
        self.uris.append(ref["uri"])
        if note:
            self.refs[note] = ref
        return ref

    def apply(self, name: str, collection: str, records: list[dict[str, Any]]) -> None:
        """Write several records in one commit, where the server removes no others."""
        account = self.accounts[name]
        writes = [
            {
                "$type": "com.atproto.repo.applyWrites#create",
                "collection": collection,
                "value": {"$type": collection, "createdAt": self.now(), **record},
            }
            for record in records
        ]
        body = {"repo": account.did, "writes": writes}
        post(account.server, "com.atproto.repo.applyWrites", body, token=account.token)

    def remove(self, note: str) -> None:
        """Delete a noted record."""
        _, _, did, collection, rkey = self.refs[note]["uri"].split("/")
        account = next(a for a in self.accounts.values() if a.did == did)
        body = {"repo": did, "collection": collection, "rkey": rkey}
        post(account.server, "com.atproto.repo.deleteRecord", body, token=account.token)

    def administer(self, name: str, nsid: str, body: Any) -> None:
        """Call a procedure as the operator of the account's server."""
        secret = base64.b64encode(f"admin:{ADMIN_PASSWORD}".encode()).decode()
        server = self.accounts[name].server
        post(server, nsid, body, authorization=f"Basic {secret}")

    def say(self, name: str, text: str, note: str = "", **fields: Any) -> Ref:
        """Write a post."""
        return self.write(name, POST, {"text": text, **fields}, note=note or text)

    def reply(self, name: str, text: str, parent: str, root: str, **fields: Any) -> Ref:
        """Write a reply to the post noted as `parent`."""
        reply = {"parent": self.refs[parent], "root": self.refs[root]}
        return self.say(name, text, reply=reply, **fields)

    def like(self, name: str, note: str) -> Ref:
        """Like a noted record."""
        return self.write(
            name, "app.bsky.feed.like", {"subject": self.refs[note]}, note=""
        )

    def repost(self, name: str, note: str, **fields: Any) -> Ref:
        """Repost a noted record."""
        record = {"subject": self.refs[note], **fields}
        return self.write(name, "app.bsky.feed.repost", record)

    def relate(self, kind: str, name: str, other: str, note: str = "") -> Ref:
        """Follow or block another account."""
        record = {"subject": self.did(other)}
        return self.write(name, f"app.bsky.graph.{kind}", record, note=note)

    def upload(self, name: str, data: bytes, kind: str) -> dict[str, Any]:
        """Store a file; the blob of it, for a record."""
        account = self.accounts[name]
        made = post_bytes(
            account.server, "com.atproto.repo.uploadBlob", data, kind, account.token
        )
        blob: dict[str, Any] = made["blob"]
        return blob


def picture(shade: int) -> bytes:
    """Return a PNG of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes([0, shade]))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )
