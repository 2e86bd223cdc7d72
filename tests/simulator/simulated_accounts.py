"""A made-up population that lives on several hosts, and does what accounts do.

The generator of the benchmarks makes the records and the commits. Here every account
has a home, frames are numbered by the host that sends them, and there is more life:
new keys, moves, new handles, accounts that rest, come back, or end. The same seed
gives the same bytes. What is true at any moment is read from the members themselves.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from simulated_chatter import PLAIN, Chatter

from bench.fake_accounts import FakeAccounts, Member
from protocol.events.frames import decode_frame
from protocol.identity.keys import PrivateKey
from protocol.repo.commit import sign_commit
from protocol.syntax import Did, Handle

ACTIVE: Final = "active"
DEACTIVATED: Final = "deactivated"
DELETED: Final = "deleted"


@dataclass(slots=True)
class Life:
    """State of an account beside its repo: its host, handle and status."""

    home: str
    handle: Handle
    status: str = ACTIVE


@dataclass(frozen=True, slots=True)
class Sent:
    """One frame of one host's stream."""

    host: str
    seq: int
    did: Did
    raw: bytes


class SimulatedAccounts(FakeAccounts):
    """`accounts` members spread over `hosts` (their names).

    Threads may read repos while another produces events.
    """

    def __init__(self, accounts: int, hosts: list[str], *, seed: int) -> None:
        self.hosts = list(hosts)
        self.lives: dict[Did, Life] = {}
        self.seqs: defaultdict[str, int] = defaultdict(int)
        self.lock = threading.RLock()
        self.happened: defaultdict[str, int] = defaultdict(int)
        self._draw = random.Random(seed)
        self._chatter = Chatter(random.Random(seed + 1))
        super().__init__(accounts, seed=seed, records=0)
        for number, member in enumerate(self.members):
            home = self.hosts[number % len(self.hosts)]
            self.lives[member.did] = Life(home, member.handle)

    def _frame(self, name: str, body: dict[str, Any]) -> bytes:
        home = self.lives[Did(body.get("repo") or body["did"])].home
        self._seq = self.seqs[home]
        self.seqs[home] += 1
        return super()._frame(name, body)

    def _kind(self) -> str:
        return self._chatter.kind() or super()._kind()

    def _record(self, member: Member, kind: str, when: int) -> bytes:
        value = super()._record(member, kind, when) if kind in PLAIN else None
        dids = [other.did for other in self.members]
        return self._chatter.enrich(member.did, kind, value, when, dids)

    def _write(self, member: Member, key: bytes, value: bytes) -> bytes:
        cid = super()._write(member, key, value)
        self._chatter.note(f"at://{member.did}/{key.decode()}", value, cid)
        return cid

    def home(self, member: Member) -> str:
        return self.lives[member.did].home

    def members_of(self, host: str) -> list[Member]:
        """Return the accounts that the host holds now."""
        return [m for m in self.members if self.lives[m.did].home == host]

    def is_born(self, member: Member) -> bool:
        return member.rev is not None

    def begin(self) -> Iterator[Sent]:
        """Yield the first events of all accounts."""
        yield from self._send(self.births())

    def join(self, records: int) -> Member:
        """Add an account that no frame mentions, only the listing of its host."""
        with self.lock:
            member = self.add(records)
            home = self._draw.choice(self.hosts)
            self.lives[member.did] = Life(home, member.handle)
        return member

    def live(self, count: int, *, lively: float = 0.0) -> Iterator[Sent]:
        """Yield `count` commits; before each, with probability `lively`, the frames of
        an account event."""
        for _ in range(count):
            if self._draw.random() < lively:
                yield from self.do(self._draw.choice(_EVENTS))
            while True:
                with self.lock:
                    raw = next(self.frames(1))
                sent = self._sent(raw)
                # Inactive accounts do not commit.
                if self.lives[sent.did].status == ACTIVE:
                    break
            yield sent

    def do(self, what: str) -> list[Sent]:
        """Apply one kind of event to a random account; return its frames."""
        with self.lock:
            frames = self._happen(what)
        if frames:
            self.happened[what] += 1
        return frames

    def _happen(self, what: str) -> list[Sent]:
        active = [m for m in self.members if self.lives[m.did].status == ACTIVE]
        member = self._draw.choice(active)
        life = self.lives[member.did]
        if what == "new key":
            member.key = PrivateKey(
                member.key.curve, b"\x01" + self._draw.randbytes(31)
            )
            # An empty commit puts the new key under the tree that is there.
            return self._tell(self._identity(member), self._recommit(member))
        if what == "move" and len(self.hosts) > 1:
            life.home = self._draw.choice([h for h in self.hosts if h != life.home])
            return self._tell(self._identity(member), self._account(member))
        if what == "new handle":
            life.handle = Handle(f"renamed{self.happened[what]}.{life.handle}"[-60:])
            member.handle = life.handle
            return self._tell(self._identity(member))
        if what == "rest":
            life.status = DEACTIVATED
            return self._tell(self._status(member, DEACTIVATED))
        if what == "come back":
            resting = [
                m for m in self.members if self.lives[m.did].status == DEACTIVATED
            ]
            if resting:
                member = self._draw.choice(resting)
                self.lives[member.did].status = ACTIVE
                return self._tell(self._account(member), self._sync(member))
        if what == "end" and len(active) > len(self.members) * 3 // 4:
            life.status = DELETED
            return self._tell(self._status(member, DELETED))
        return []

    def _recommit(self, member: Member) -> bytes:
        since, data = member.rev, member.data
        member.rev = self._next_rev()
        member.commit = sign_commit(member.did, data, member.rev, member.key)
        return self._commit_frame(member, since, data, [], member.tree.proof_blocks([]))

    def _status(self, member: Member, status: str) -> bytes:
        return self._frame(
            "#account", {"did": member.did, "active": False, "status": status}
        )

    def _tell(self, *frames: bytes) -> list[Sent]:
        return [self._sent(raw) for raw in frames]

    def _send(self, frames: Iterator[bytes]) -> Iterator[Sent]:
        while True:
            with self.lock:
                raw = next(frames, None)
            if raw is None:
                return
            yield self._sent(raw)

    def _sent(self, raw: bytes) -> Sent:
        body = decode_frame(raw).body
        did = Did(body.get("repo") or body["did"])
        return Sent(self.lives[did].home, body["seq"], did, raw)


_EVENTS: Final = ("new key", "move", "new handle", "rest", "come back", "end")
