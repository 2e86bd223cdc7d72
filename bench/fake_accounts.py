"""Fake accounts for benchmarks and tests: their repos and their live traffic.

The same seed gives the same bytes. Everything is valid: records are signed into trees,
frames carry `prevData` and covering proofs. Collections have about their shares of the
real network, and the popularity of targets is skewed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from libipld import encode_dag_cbor

from protocol.data.cid import BLOB_PREFIX, cid_for, cid_to_text
from protocol.identity.keys import Curve, PrivateKey, PublicKey
from protocol.mst import Tree, build_nodes
from protocol.repo.car import car_block, car_header
from protocol.repo.commit import sign_commit
from protocol.repo.repo_export import export_repo
from protocol.syntax import Did, Handle, Tid, datetime_from_us, tid_from_int

LIKE: Final = "app.bsky.feed.like"
POST: Final = "app.bsky.feed.post"
REPOST: Final = "app.bsky.feed.repost"
FOLLOW: Final = "app.bsky.graph.follow"
BLOCK: Final = "app.bsky.graph.block"
PROFILE: Final = "app.bsky.actor.profile"

START_US: Final = 1_750_000_000_000_000
"""Start of the live traffic; stored records are from the year before."""

_SHARES: Final = {LIKE: 55, POST: 17, REPOST: 11, FOLLOW: 15, BLOCK: 2}
_YEAR_US: Final = 365 * 24 * 3600 * 1_000_000
_STEP_US: Final = 1_700
_SELF: Final = f"{PROFILE}/self".encode()
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_HEADERS: Final = {
    name: encode_dag_cbor({"op": 1, "t": name})
    for name in ("#commit", "#sync", "#identity", "#account")
}
_WORDS: Final = (  # noqa: SIM905
    "the of and sky blue post about today weather cat python firehose good morning "
    "日本語 です とても très bien ça alors mañana gente schön heute 안녕하세요 "
    "🌞 news garden coffee music train river photo winter bread match"
).split()


@dataclass(slots=True)
class Member:
    """A fake account. `live` holds its record keys except the profile, unordered."""

    did: Did
    handle: Handle
    key: PrivateKey
    tree: Tree
    rev: Tid | None = None
    commit: bytes = b""
    records: dict[bytes, bytes] = field(default_factory=dict)
    live: list[bytes] = field(default_factory=list)

    @property
    def data(self) -> bytes:
        return self.tree.root()


@dataclass(frozen=True, slots=True)
class _Change:
    """An operation, with `cid` and `prev` as in a commit's ops."""

    action: str
    key: bytes
    cid: bytes | None
    prev: bytes | None


class FakeAccounts:
    """Fake accounts with repos and their live traffic.

    About `p256_share` of them sign with P-256. `records` is the average size of a repo
    at the start, with a wide spread; with 0 all are empty (see `births`).
    """

    def __init__(
        self,
        accounts: int,
        *,
        seed: int = 1,
        records: int = 1_000,
        p256_share: float = 0.15,
    ) -> None:
        self._rng = random.Random(seed)
        self._seq = 0
        self._now = START_US
        self._posts: list[tuple[str, str]] = []
        self._others: list[tuple[str, str]] = []
        self.members = [self._settle(n, p256_share) for n in range(accounts)]
        self._by_did = {member.did: member for member in self.members}
        if records:
            for member in self.members:
                self._write_posts(member, self._size(records))
            for member in self.members:
                self._write_rest(member)

    @property
    def keys(self) -> dict[Did, PublicKey]:
        """Return the signing keys by DID."""
        return {member.did: member.key.public for member in self.members}

    def member(self, did: Did) -> Member:
        return self._by_did[did]

    def births(self) -> Iterator[bytes]:
        """Yield #identity, #account, an empty #commit and #sync of each account.

        Only for accounts without records.
        """
        for member in self.members:
            member.rev = self._next_rev()
            member.commit = sign_commit(member.did, member.data, member.rev, member.key)
            yield self._identity(member)
            yield self._account(member)
            yield self._commit_frame(
                member, None, None, [], member.tree.proof_blocks([])
            )
            yield self._sync(member)

    def frames(self, count: int, *, others: bool = True) -> Iterator[bytes]:
        """Yield `count` frames: commits, and with `others` a few of other kinds."""
        rng = self._rng
        for _ in range(count):
            member = self.members[self._popular(len(self.members), 1.5)]
            draw = rng.random()
            if others and draw < 0.010:
                if draw < 0.004:
                    yield self._identity(member)
                elif draw < 0.007:
                    yield self._account(member)
                else:
                    yield self._sync(member)
            else:
                yield self._commit(member)

    def add(self, records: int) -> Member:
        """Add an account on the K-256 curve with exactly this number of records."""
        member = self._settle(len(self.members), 0.0)
        self.members.append(member)
        self._by_did[member.did] = member
        self._write_posts(member, records - 1)
        self._write_rest(member)
        return member

    def know_posts(self, posts: Iterable[tuple[str, str]]) -> None:
        """Let half of all new references go to these posts, pairs of AT-URI and CID."""
        self._others = list(posts)

    def car(self, member: Member) -> Iterator[bytes]:
        """Yield the repo of an account as pieces of a CAR."""
        items = [
            (key, cid_for(value), value)
            for key, value in sorted(member.records.items())
        ]
        return export_repo(member.commit, lambda: items)

    def _settle(self, number: int, p256_share: float) -> Member:
        rng = self._rng
        did = Did("did:plc:" + "".join(rng.choices(_LETTERS, k=24)))
        curve: Curve = "p256" if rng.random() < p256_share else "k256"
        key = PrivateKey(curve, b"\x01" + rng.randbytes(31))
        return Member(did, Handle(f"member{number}.test"), key, Tree(_nothing))

    def _size(self, mean: int) -> int:
        return int(min(20 * mean, max(2, mean * self._rng.lognormvariate(-0.72, 1.2))))

    def _write_posts(self, member: Member, size: int) -> None:
        """Write the posts of a repo of `size` records, and reserve the other keys."""
        rng = self._rng
        for _ in range(size):
            when = START_US - rng.randrange(_YEAR_US)
            kind = rng.choices(list(_SHARES), list(_SHARES.values()))[0]
            key = f"{kind}/{tid_from_int(when << 10 | rng.randrange(1024))}".encode()
            member.live.append(key)
            if kind == POST:
                self._write(member, key, self._record(member, POST, when))
        member.records[_SELF] = self._record(member, PROFILE, START_US)

    def _write_rest(self, member: Member) -> None:
        for key in member.live:
            if key not in member.records:
                kind = key[: key.index(b"/")].decode()
                when = START_US - self._rng.randrange(_YEAR_US)
                member.records[key] = self._record(member, kind, when)
        member.live = [key for key in member.records if key != _SELF]
        items = sorted((key, cid_for(value)) for key, value in member.records.items())
        blocks: dict[bytes, bytes] = {}
        for cid, raw, _ in build_nodes(items):
            blocks[cid] = raw
        member.tree = Tree(blocks.get, cid)
        member.rev = self._next_rev()
        member.commit = sign_commit(member.did, cid, member.rev, member.key)

    def _write(self, member: Member, key: bytes, value: bytes) -> bytes:
        """Store a record; posts become targets of references."""
        member.records[key] = value
        cid = cid_for(value)
        if key.startswith(POST.encode()):
            uri = f"at://{member.did}/{key.decode()}"
            self._posts.append((uri, cid_to_text(cid)))
        return cid

    def _record(self, member: Member, kind: str, when: int) -> bytes:
        rng = self._rng
        value: dict[str, Any] = {"$type": kind}
        if kind == PROFILE:
            value["displayName"] = member.handle.partition(".")[0]
            value["description"] = " ".join(rng.choices(_WORDS, k=20))
        else:
            value["createdAt"] = datetime_from_us(when)
        if kind in (LIKE, REPOST):
            value["subject"] = self._some_post(member, when)
        elif kind in (FOLLOW, BLOCK):
            value["subject"] = self.members[self._popular(len(self.members), 2.5)].did
        elif kind == POST:
            value["text"] = " ".join(rng.choices(_WORDS, k=rng.randrange(3, 45)))
            value["langs"] = [rng.choice(("en", "en", "en", "ja", "pt", "de"))]
            draw = rng.random()
            if draw < 0.5 and self._posts:
                root = self._some_post(member, when)
                value["reply"] = {"root": root, "parent": root}
            elif draw < 0.7:
                value["embed"] = self._images()
        encoded: bytes = encode_dag_cbor(value)
        return encoded

    def _images(self) -> dict[str, Any]:
        # The encoder writes bytes that are a CID as a link.
        ref = BLOB_PREFIX + self._rng.randbytes(32)
        blob = {"$type": "blob", "ref": ref, "mimeType": "image/jpeg", "size": 345_678}
        image = {
            "alt": "a picture",
            "image": blob,
            "aspectRatio": {"width": 1000, "height": 750},
        }
        return {"$type": "app.bsky.embed.images", "images": [image]}

    def _some_post(self, member: Member, when: int) -> dict[str, str]:
        if self._others and self._rng.random() < 0.5:
            uri, cid = self._others[self._popular(len(self._others), 1.0)]
        elif self._posts:
            uri, cid = self._posts[self._popular(len(self._posts), 3.0)]
        else:
            post = tid_from_int(when << 10)
            uri = f"at://{member.did}/{POST}/{post}"
            cid = cid_to_text(cid_for(uri.encode()))
        return {"uri": uri, "cid": cid}

    def _popular(self, size: int, skew: float) -> int:
        """Return an index below `size`, skewed towards the first ones."""
        return int(size * self._rng.random() ** skew)

    def _next_rev(self) -> Tid:
        self._now += _STEP_US
        return tid_from_int(self._now << 10)

    def _commit(self, member: Member) -> bytes:
        rng = self._rng
        rev = self._next_rev()
        since, prev_data = member.rev, member.data
        changes: dict[bytes, _Change] = {}
        for step in range(1 if rng.random() < 0.95 else rng.randrange(2, 11)):
            change = self._change(member, step, changes)
            changes[change.key] = change
        data = member.tree.root()
        member.rev = rev
        member.commit = sign_commit(member.did, data, rev, member.key)
        proof = member.tree.new_blocks() | member.tree.proof_blocks(changes)
        member.tree.settle()
        return self._commit_frame(
            member, since, prev_data, list(changes.values()), proof
        )

    def _change(
        self, member: Member, step: int, taken: dict[bytes, _Change]
    ) -> _Change:
        """Change one record whose key is not among `taken`."""
        rng = self._rng
        draw = rng.random()
        if 0.90 <= draw < 0.975 and len(member.live) > 20:
            index = rng.randrange(len(member.live))
            key = member.live[index]
            if key not in taken:
                member.live[index] = member.live[-1]
                member.live.pop()
                del member.records[key]
                return _Change("delete", key, None, member.tree.delete(key))
        if draw >= 0.975 and _SELF not in taken:
            cid = self._write(member, _SELF, self._record(member, PROFILE, self._now))
            prev = member.tree.put(_SELF, cid)
            return _Change("create" if prev is None else "update", _SELF, cid, prev)
        kind = self._kind()
        # Keys are unique as long as each commit has its own microsecond.
        key = f"{kind}/{tid_from_int((self._now + step) << 10 | 1)}".encode()
        cid = self._write(member, key, self._record(member, kind, self._now))
        member.live.append(key)
        member.tree.put(key, cid)
        return _Change("create", key, cid, None)

    def _kind(self) -> str:
        """Draw the collection of a new record."""
        return self._rng.choices(list(_SHARES), list(_SHARES.values()))[0]

    def _commit_frame(
        self,
        member: Member,
        since: Tid | None,
        prev_data: bytes | None,
        changes: list[_Change],
        proof: dict[bytes, bytes],
    ) -> bytes:
        ops = []
        records: dict[bytes, bytes] = {}
        for change in changes:
            op = {
                "action": change.action,
                "path": change.key.decode(),
                "cid": change.cid,
            }
            if change.prev is not None:
                op["prev"] = change.prev
            if change.cid is not None:
                records[change.cid] = member.records[change.key]
            ops.append(op)
        commit = cid_for(member.commit)
        body: dict[str, Any] = {
            "repo": member.did,
            "rev": member.rev,
            "since": since,
            "commit": commit,
            "tooBig": False,
            "rebase": False,
            "blocks": _car(commit, {commit: member.commit} | proof | records),
            "ops": ops,
            "blobs": [],
        }
        if prev_data is not None:
            body["prevData"] = prev_data
        return self._frame("#commit", body)

    def _sync(self, member: Member) -> bytes:
        commit = cid_for(member.commit)
        blocks = _car(commit, {commit: member.commit})
        return self._frame(
            "#sync", {"did": member.did, "rev": member.rev, "blocks": blocks}
        )

    def _identity(self, member: Member) -> bytes:
        return self._frame("#identity", {"did": member.did, "handle": member.handle})

    def _account(self, member: Member) -> bytes:
        return self._frame("#account", {"did": member.did, "active": True})

    def _frame(self, name: str, body: dict[str, Any]) -> bytes:
        # The encoder writes bytes that are a CID as a link; a CAR never looks like one.
        self._seq += 1
        body = {"seq": self._seq, "time": datetime_from_us(self._now), **body}
        payload: bytes = encode_dag_cbor(body)
        return _HEADERS[name] + payload


def made_repo(records: int, *, seed: int = 1) -> tuple[Member, Iterator[bytes]]:
    """Return an account with `records` records, and the pieces of its CAR."""
    fakes = FakeAccounts(0, seed=seed)
    member = fakes.add(records)
    return member, fakes.car(member)


def _car(root: bytes, blocks: dict[bytes, bytes]) -> bytes:
    return car_header(root) + b"".join(
        car_block(cid, block) for cid, block in blocks.items()
    )


def _nothing(_cid: bytes) -> bytes | None:
    """Return no block: a new tree is in memory."""
    return None
