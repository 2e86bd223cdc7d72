"""A bug of one edit, and the tests that must detect it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """Replace `old`, which occurs once in `file`, by `new`: each of `tests` must fail.

    A test is `path::function` or `path::function[case]`. `threat` is a key of THREATS.
    `seconds` bounds the run.
    """

    name: str
    threat: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    seconds: float = 240.0

    def apply(self, text: str) -> str:
        """Return `text` with the bug; ValueError if `old` does not occur once."""
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self.name}: its old text occurs {text.count(self.old)} times"
            )
        return text.replace(self.old, self.new)


THREATS = {
    "cursor": "A cursor that is saved ahead of the work it covers",
    "encoding": "Another encoding of the same value",
    "hash": "A block that is not what its CID says",
    "signature": "A signature in another form",
    "operations": "Operations that lie about their commit",
    "size": "More than there may be, of anything",
    "chain": "A commit that does not follow from the one before",
    "vanished": "Records that vanish while we are away",
    "host": "A host that speaks for accounts it does not hold",
    "account": "An account that went, and is shown all the same",
    "address": "A name that leads into the private network",
    "replay": "A token used twice",
    "group": "One commit of a group that is taken for another",
    "shard": "Accounts that are dealt out to processes, and lost between them",
    "part": "A part of a repo that is not what it says it is",
    "row": "Rows that are not what their records say",
    "turn": "A host that keeps the frames of others waiting",
    "label": "A label that its labeler did not give, or has taken back",
    "takedown": "Content that is shown after it was taken down",
    "private": "Private state that others can read",
    "notice": "A notification that is lost, doubled, or of oneself",
    "write": "A view that is not as new as it says",
}
"""Key -> threat."""

SECURITY = frozenset(THREATS) - {
    *("cursor", "chain", "vanished", "size", "shard", "row", "turn"),
    *("notice", "write"),
}
"""Threats of access or forgery: all their mutants must be killed."""
