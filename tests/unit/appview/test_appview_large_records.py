"""Bounds of one answer with large records."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from small_world import START, World, did

from appview.hydration.records import POST
from appview.hydration.state import MAX_ANSWER_BYTES, State
from appview.labelers import Labelers
from feeds.served_feeds import BUILT_IN, FeedSet
from indexer.apply import apply_batch
from protocol.data import cbor
from protocol.data.json_form import to_json
from protocol.syntax import TidClock
from storage.postgres.pool import open_pool
from storage.private.private_state import NOTHING as NO_STATE
from storage.private.takedowns import NOTHING
from storage.records.addresses import Address
from storage.records.interning import Interner
from storage.records.record_allowance import Allowance


class _Session:
    """A session without a viewer."""

    viewer_actor = None
    private = NO_STATE
    feeds = FeedSet(BUILT_IN)

    def __init__(self, conn: Any, interner: Interner) -> None:
        self.conn = conn
        self.app = SimpleNamespace(
            service_did="did:web:here.example.com", trusted_verifiers=()
        )
        self.taken_down = NOTHING
        self.context = SimpleNamespace(labelers=Labelers())


@pytest.fixture(scope="module")
def state_of(databases: Any) -> Iterator[Any]:
    micros = iter(range(round(START.timestamp() * 1e6), 2**53, 60_000_000))
    world = World(TidClock(1, lambda: next(micros)))
    for number in range(6):
        # Small as stored and large as decoded, and large both ways.
        world.post("mal", f"{number}", junk=[{}] * 100_000, more="x" * 400_000)
        noise = "".join(
            chr(0x4E00 + n * n * (number + 7) % 20_000) for n in range(90_000)
        )
        world.post("mal", f"{number}", junk=noise)
        world.post("bob", f"honest {number}", junk="y" * 3_000)
    url = databases.make("index")
    with open_pool(url, max=2) as names, psycopg.connect(url) as conn:
        interner = Interner(names)
        apply_batch(conn, interner, world.commits(), {}, datetime.now(UTC))
        conn.commit()
        ids = interner.actors([did("bob"), did("mal")])
        yield lambda: (State(_Session(conn, interner)), ids)  # type: ignore[arg-type]
    databases.drop(url)


def _addresses(state: State, actor: int) -> list[Address]:
    rows = state.session.conn.execute(
        "SELECT rkey FROM post WHERE actor = %s", (actor,)
    )
    return [Address(actor, POST, rkey) for (rkey,) in rows]


def test_large_posts_are_left_out_and_others_shown(state_of: Any) -> None:
    state, ids = state_of()
    honest = _addresses(state, ids[did("bob")])
    large = _addresses(state, ids[did("mal")])
    assert (len(honest), len(large)) == (6, 12)
    tracemalloc.start()
    state.load_posts([*large, *honest])
    # Later loads of the same answer share the allowance.
    state.load_records(large)
    shown = [to_json(post.record.value) for post in state.posts.values()]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000_000
    assert state.posts.keys() >= set(honest)
    assert 6 < len(shown) < 18
    read = [*state.posts.values(), *state.records.values()]
    held = [cbor.encode(getattr(one, "record", one).value) for one in read]
    assert sum(map(len, held)) <= MAX_ANSWER_BYTES


def test_single_large_post_is_shown(state_of: Any) -> None:
    state, ids = state_of()
    [first, *_] = _addresses(state, ids[did("mal")])
    state.load_posts([first])
    assert first in state.posts


def test_spent_allowance_reads_no_record(state_of: Any) -> None:
    state, ids = state_of()
    state.allowance = Allowance(0, 1_000)
    state.load_posts(_addresses(state, ids[did("bob")]))
    assert state.posts == {}
