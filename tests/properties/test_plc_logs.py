"""Random logs with forks, judged by the rules and by a model that shares no code.

The model knows the tree of operations and their signers; it never looks at
signatures, CIDs or the order of a list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plc.operation import HOUR_MS, LogEntry, check_next_operation, verify_audit_log
from plc.operation_format import (
    Operation,
    Tombstone,
    did_for_genesis,
    operation_cid,
    sign_operation,
)
from protocol.errors import ProtocolError
from protocol.identity.keys import PrivateKey

KEYS = [
    PrivateKey.from_bytes("p256" if n % 2 else "k256", bytes([n + 1]) * 32)
    for n in range(4)
]
NAMES = [key.public.did_key for key in KEYS]
START = 1_790_000_000_000
WINDOW = 72 * HOUR_MS


@dataclass
class Node:
    """An accepted operation of the model."""

    keys: list[int]
    signer: int
    time: int
    tombstone: bool
    alive: bool = True
    children: list[Node] = field(default_factory=list)

    def bury(self) -> None:
        self.alive = False
        for child in self.children:
            child.bury()


def allowed(nodes: list[Node], parent: Node, signer: int, time: int) -> bool:
    if not parent.alive or parent.tombstone or signer not in parent.keys:
        return False
    if time <= max(node.time for node in nodes):
        return False
    rivals = [child for child in parent.children if child.alive]
    assert len(rivals) <= 1
    return all(
        parent.keys.index(signer) < parent.keys.index(rival.signer)
        and time - rival.time <= WINDOW
        for rival in rivals
    )


key_lists = st.lists(st.integers(0, 3), max_size=5)
steps = st.lists(
    st.tuples(
        st.integers(0, 100),  # how far back the parent lies, mostly not far
        st.integers(0, 3),  # signer
        st.sampled_from(
            [0, 1, 1, 2, HOUR_MS, WINDOW - 2, WINDOW - 1, WINDOW, WINDOW + 1]
        ),
        st.booleans(),
        st.one_of(st.none(), st.none(), key_lists),
    ),
    max_size=14,
)


@settings(max_examples=250)
@given(first_keys=key_lists.filter(len), steps=steps, data=st.data())
def test_verdicts_equal_the_model(
    first_keys: list[int],
    steps: list[tuple[int, int, int, bool, list[int] | None]],
    data: st.DataObject,
) -> None:
    genesis = make(first_keys, None, first_keys[-1], False, 0)
    assert isinstance(genesis, Operation)
    did = did_for_genesis(genesis)
    entries = [LogEntry(did, genesis, operation_cid(genesis), False, START)]
    nodes = [Node(first_keys, first_keys[-1], START, False)]
    for number, (back, signer, wait, tombstone, new_keys) in enumerate(steps, 1):
        index = len(nodes) - 1 - min(back // 30, len(nodes) - 1)
        parent, time = nodes[index], nodes[-1].time + wait
        keys = parent.keys if new_keys is None else new_keys
        # Tombstones end most of what is interesting, so they are made rarer.
        tombstone = tombstone and number % 3 == 0
        proposed = make(keys, entries[index].cid, signer, tombstone, number)
        expected = allowed(nodes, parent, signer, time)
        try:
            verdict = check_next_operation(did, entries, proposed, time)
        except ProtocolError:
            assert not expected
            continue
        assert expected
        for rival in [child for child in parent.children if child.alive]:
            rival.bury()
        node = Node(keys, signer, time, tombstone)
        parent.children.append(node)
        nodes.append(node)
        entries.append(LogEntry(did, proposed, verdict.cid, False, time))
        entries = [
            LogEntry(e.did, e.operation, e.cid, not n.alive, e.created_ms)
            for e, n in zip(entries, nodes, strict=True)
        ]
        assert all(e.nullified for e in entries if e.cid in verdict.nullified), verdict
    published: list[dict[str, Any]] = [entry.to_json() for entry in entries]
    audited = verify_audit_log(did, published)
    assert list(audited.entries) == entries
    assert not audited.current.nullified
    lie = data.draw(st.integers(0, len(published) - 1))
    published[lie]["nullified"] = not published[lie]["nullified"]
    with pytest.raises(ProtocolError):
        verify_audit_log(did, published)


def make(
    keys: list[int], prev: str | None, signer: int, tombstone: bool, number: int
) -> Operation | Tombstone:
    if tombstone and prev is not None:
        return sign_operation(Tombstone(prev), KEYS[signer])
    operation = Operation(
        rotation_keys=tuple(NAMES[key] for key in keys),
        verification_methods={},
        also_known_as=(f"at://{number}.test",),
        services={},
        prev=prev,
    )
    return sign_operation(operation, KEYS[signer])
