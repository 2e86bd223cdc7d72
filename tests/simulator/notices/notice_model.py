"""The notifications that the records of all accounts make, by no code of the product.

Reads records as the lexicons describe them. An account notifies once for a subject that
it likes, reposts or follows; a post notifies once: as mention, quote or reply.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from oracle import Expected
from simulated_accounts import ACTIVE, DELETED
from simulated_chatter import STARTER_PACK, VERIFICATION

from bench.fake_accounts import BLOCK, FOLLOW, LIKE, POST, PROFILE, REPOST
from protocol.data.cbor import decode_fast

_ANCESTORS = 4
"""Ancestors of a reply that are notified, its parent among them."""

Value = dict[str, Any]


class Notified(NamedTuple):
    """A notification: the reason, the record, and the recipient's own record."""

    reason: str
    uri: str
    subject: str | None


@dataclass
class Inboxes:
    """Notifications by recipient. Of each group exactly one is there."""

    groups: dict[str, list[frozenset[Notified]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    optional: dict[str, set[Notified]] = field(default_factory=lambda: defaultdict(set))
    """The reference to a repost counts with the like that counts."""
    removed: dict[str, set[Notified]] = field(default_factory=lambda: defaultdict(set))

    def compare(self, recipient: str, pages: list[Value]) -> list[str]:
        """Return the differences of a whole list from what must be there."""
        told = [Notified(n["reason"], n["uri"], n.get("reasonSubject")) for n in pages]
        faults = [
            f"{recipient} was notified {n} times of {one}"
            for one, n in Counter(told).items()
            if n > 1
        ]
        moments = [n["indexedAt"] for n in pages]
        if moments != sorted(moments, reverse=True):
            faults.append(f"{recipient}: notifications are out of order")
        faults += [
            f"{recipient}: {n['uri']} at {n['indexedAt']}"
            for n in pages
            if not _is_at_its_time(n)
        ]
        left = {one for one in told if one.reason != "unverified"}
        for group in self.groups[recipient]:
            found = left & group
            left -= group
            if not found:
                faults.append(f"{recipient} was not notified of {min(group)}")
            elif len(found) > 1:
                faults.append(f"{recipient} was notified twice by {sorted(found)}")
        left -= self.optional[recipient]
        return faults + [f"{recipient} was notified of {one}" for one in sorted(left)]


def _is_at_its_time(notice: Value) -> bool:
    made = notice["record"].get("createdAt")
    if made is None or notice["reason"] == "unverified":
        return True
    moment = datetime.fromisoformat(notice["indexedAt"])
    return abs((datetime.fromisoformat(made) - moment).total_seconds()) < 0.01


class NoticeModel:
    """All records, by AT-URI."""

    def __init__(self, accounts: Iterable[Expected]) -> None:
        self.statuses = {account.did: account.status for account in accounts}
        self.records: dict[str, Value] = {}
        for account in accounts:
            if account.status != DELETED:
                for key, raw in account.records.items():
                    uri = f"at://{account.did}/{key.decode()}"
                    self.records[uri] = decode_fast(raw)
        self._blocks = {
            (_owner(uri), value["subject"]) for uri, value in self._of(BLOCK)
        }

    def recipients(self) -> list[str]:
        """Return the accounts that can ask for their notifications."""
        return [did for did, status in self.statuses.items() if status == ACTIVE]

    def inboxes(self) -> Inboxes:
        """Return the notifications of all accounts."""
        found = Inboxes()
        for kind, reason in ((LIKE, "like"), (REPOST, "repost")):
            self._reactions(found, kind, reason)
        follows = defaultdict(set)
        for uri, value in self._of(FOLLOW):
            follows[_owner(uri), value["subject"]].add(Notified("follow", uri, None))
        for (author, subject), told in follows.items():
            if self._reaches(author, subject):
                found.groups[subject].append(frozenset(told))
        for recipient, one in self._singles():
            if self._reaches(_owner(one.uri), recipient):
                found.groups[recipient].append(frozenset((one,)))
        return found

    def _of(self, kind: str) -> Iterator[tuple[str, Value]]:
        return ((u, v) for u, v in self.records.items() if u.split("/")[3] == kind)

    def _reaches(self, author: str, recipient: str) -> bool:
        return (
            author != recipient
            and self.statuses.get(author) == ACTIVE
            and (author, recipient) not in self._blocks
            and (recipient, author) not in self._blocks
        )

    def _reactions(self, found: Inboxes, kind: str, reason: str) -> None:
        by_subject: dict[tuple[str, str], list[str]] = defaultdict(list)
        for uri, value in self._of(kind):
            by_subject[_owner(uri), value["subject"]["uri"]].append(uri)
        for (author, subject), uris in by_subject.items():
            recipient = _owner(subject)
            if subject in self.records and self._reaches(author, recipient):
                told = frozenset(Notified(reason, uri, subject) for uri in uris)
                found.groups[recipient].append(told)
            for uri in uris:
                via = self.records[uri].get("via", {}).get("uri")
                if via not in self.records or author == recipient:
                    continue
                if self._reaches(author, _owner(via)):
                    one = Notified(f"{reason}-via-repost", uri, via)
                    if len(uris) > 1:
                        found.optional[_owner(via)].add(one)
                    else:
                        found.groups[_owner(via)].append(frozenset((one,)))

    def _singles(self) -> Iterator[tuple[str, Notified]]:
        for uri, value in self._of(POST):
            yield from self._of_post(uri, value).items()
        for uri, value in self._of(VERIFICATION):
            yield value["subject"], Notified("verified", uri, None)
        for uri, value in self._of(PROFILE):
            pack = value.get("joinedViaStarterPack", {}).get("uri")
            if pack in self.records and pack.split("/")[3] == STARTER_PACK:
                yield _owner(pack), Notified("starterpack-joined", uri, pack)

    def _of_post(self, uri: str, value: Value) -> dict[str, Notified]:
        """Return the notice of each account that a post notifies."""
        told: dict[str, Notified] = {}
        for facet in value.get("facets", ()):
            for feature in facet["features"]:
                told.setdefault(feature["did"], Notified("mention", uri, None))
        quoted = value.get("embed", {}).get("record", {}).get("uri")
        if quoted in self.records:
            told.setdefault(_owner(quoted), Notified("quote", uri, quoted))
        post: Value | None = value
        for _ in range(_ANCESTORS):
            above = (post or {}).get("reply", {}).get("parent", {}).get("uri")
            post = self.records.get(above)
            if post is None:
                break
            told.setdefault(_owner(above), Notified("reply", uri, above))
        return told


def _owner(uri: str) -> str:
    return uri.split("/")[2]
