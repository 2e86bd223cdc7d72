"""A bug of one edit, and the tests that must find it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """Replace `old`, which stands in `file` exactly once, by `new`: each of `tests`
    must fail then. A test is `path::function`, or `path::function[case]`.

    `threat` is what the bug lets in, a key of THREATS. `seconds` bounds the run.
    """

    name: str
    threat: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    seconds: float = 240.0

    def apply(self, text: str) -> str:
        """`text` of the file with the bug in it; ValueError if it is not there once."""
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self.name}: its old text stands {text.count(self.old)}x"
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
}
"""Key -> what we guard against."""

SECURITY = frozenset(THREATS) - {
    *("cursor", "chain", "vanished", "size", "shard", "row", "turn"),
}
"""Those by which somebody gets what is not theirs to have or to say. Of the bugs that
let them in every one must be killed, of all bugs nineteen of twenty."""
