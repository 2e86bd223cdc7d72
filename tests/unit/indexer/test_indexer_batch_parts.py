"""Splits of batches by the links that their records make."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from indexer_world import LIKE, author, like

from indexer import batch_parts
from indexer.batch_parts import LINKS_OF_REPLACED, MOST_LINKS, parts_of
from indexer.links import MAX_LINKS, find_links, most_links
from protocol.data import cbor
from protocol.events.event import CommitEvent, DroppedOp, Event, IdentityEvent, RecordOp
from protocol.syntax import Did

NSID: Any = "com.example.note"
DID = Did("did:plc:" + "a" * 24)


def record(links: int) -> bytes:
    return cbor.encode(
        {"$type": NSID, "to": [f"did:web:a{n}.co" for n in range(links)]}
    )


def commit(*ops: tuple[str, int], drops: int = 0) -> CommitEvent:
    """Make a commit of (action, links of the new record) for each operation."""
    made = []
    for number, (action, links) in enumerate(ops):
        value = None if action == "delete" else record(links)
        key: Any = f"r{number}"
        made.append(RecordOp(action, NSID, key, None, value))  # type: ignore[arg-type]
    dropped: Any = [DroppedOp("a.b.c/d", None, None)] * drops  # type: ignore[arg-type]
    rev: Any = "3" + "2" * 12
    return CommitEvent(DID, rev, None, b"", b"", b"", made, dropped)


def links_of(event: Event) -> int:
    if not isinstance(event, CommitEvent):
        return 0
    replaced = sum(op.action != "create" for op in event.ops) + len(event.drops)
    made = sum(len(find_links(cbor.decode(op.value or b"\xa0"))) for op in event.ops)  # type: ignore[arg-type]
    return made + LINKS_OF_REPLACED * replaced


actions = st.tuples(
    st.sampled_from(["create", "update", "delete"]), st.integers(0, MAX_LINKS + 2)
)
events = st.lists(
    st.builds(
        lambda ops, drops: commit(*ops, drops=drops),
        st.lists(actions, max_size=3),
        st.integers(0, 2),
    )
    | st.just(IdentityEvent(DID)),
    max_size=9,
)


@given(events, st.integers(1, 3_000))
def test_parts_are_the_batch_in_its_order(batch: list[Event], most: int) -> None:
    before = batch_parts.MOST_LINKS
    batch_parts.MOST_LINKS = most  # type: ignore[misc]
    try:
        parts = list(parts_of(batch))
    finally:
        batch_parts.MOST_LINKS = before  # type: ignore[misc]
    assert [event for part in parts for event in part] == batch
    weights = [sum(map(links_of, part)) for part in parts]
    for number, (part, weight) in enumerate(zip(parts, weights, strict=True)):
        # No more than the limit, except an event that exceeds it by itself.
        assert weight <= most or len(part) == 1 or not any(map(links_of, part[1:]))
        if number:
            # No part is split without need.
            assert part
            assert weights[number - 1] + links_of(part[0]) > most


def test_a_thousand_likes_are_one_part() -> None:
    uri = f"at://{DID}/app.bsky.feed.post/3" + "2" * 12
    events = [author(0).write(LIKE, like(uri))[1] for _ in range(1_000)]
    assert [len(part) for part in parts_of(events)] == [1_000]
    assert list(parts_of([])) == [[]]


def test_commit_with_many_links_is_its_own_part() -> None:
    # One block at two hundred keys: of 35 kB, 130,000 links.
    large = commit(*[("create", 650)] * 200)
    assert [len(part) for part in parts_of([large] * 5)] == [1] * 5
    # Deletes may remove as many links.
    emptied = commit(*[("delete", 0)] * 200)
    most = MOST_LINKS // LINKS_OF_REPLACED // 200
    parts = [len(part) for part in parts_of([emptied] * 5)]
    assert max(parts) == most
    assert sum(parts) == 5


def test_most_links_is_an_upper_bound() -> None:
    for links in (0, 1, 5, MAX_LINKS, MAX_LINKS + 5):
        found = len(find_links(cbor.decode(record(links))))  # type: ignore[arg-type]
        assert found == most_links(record(links))
