"""Ways in which a repo's rows come about, each fed with the same history."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from index_dump import Documents, dump
from indexer_steps import diff_of
from indexer_world import NOW
from repo_history import History, Writer

from audit.repair import clear_repo
from audit.repo_audit import recount_stats
from audit.row_audit import audit_whole
from indexer import account
from indexer.apply import apply_batch
from indexer.collections.texts import TEXTS
from indexer.repos.checkout import Checkout
from indexer.repos.repo_batch import FetchedRepo, import_fresh
from indexer.repos.repo_diff import apply_diff
from indexer.repos.selected import keep_wanted
from protocol.events.event import AccountEvent, CommitEvent
from search.drain import drain_outbox
from storage.postgres.pool import Conn
from storage.records.distant_replies import count_wrong_distant_replies
from storage.records.interning import Interner
from storage.repos.scope_rows import ScopeKind, set_scope
from storage.repos.selections import wanted_selection


class World:
    """An empty index, and the steps of the ways."""

    def __init__(self, conn: Conn, interner: Interner, history: History, seed: int):
        self.conn = conn
        self.interner = interner
        self.history = history
        self.rng = random.Random(seed)
        self.documents = Documents()
        self._seq = 0

    def live(self, events: Sequence[CommitEvent], most: int = 9) -> None:
        """Apply live commits in batches of any size."""
        at = 0
        while at < len(events):
            step = self.rng.randrange(1, most + 1)
            self.apply(*events[at : at + step])
            at += step

    def apply(self, *events: Any) -> None:
        self._seq += 1
        apply_batch(self.conn, self.interner, events, {1: self._seq}, NOW)
        if self.rng.random() < 0.3:
            self.drain()

    def live_until(self, ends: Sequence[int], most: int = 9) -> None:
        self.live(self.history.mix(self.rng, [0] * len(ends), ends), most)

    def claim(self) -> None:
        """Mark all repos as being fetched."""
        for writer in self.history.writers:
            actor = self.interner.actors([writer.did])[writer.did]
            self.conn.execute(
                "INSERT INTO repo (actor, host, state) VALUES (%s, 1, 'resyncing')"
                " ON CONFLICT (actor) DO UPDATE SET state = 'resyncing'",
                (actor,),
            )
        self.conn.commit()

    def fetch(self, state: Writer, selection: int | None = None) -> None:
        keeps = self.keeps(selection)
        records = state.tree_records(keeps)
        with Checkout(
            self.conn, self.interner, state.did, 1, selection=selection, now=NOW
        ) as checkout:
            while records:
                step = self.rng.randrange(1, 30)
                checkout.add(records[:step])
                records = records[step:]
            checkout.drop(state.tree_drops(keeps))
            checkout.finish(state.head())

    def keeps(self, selection: int | None) -> set[str] | None:
        if selection is None:
            return None
        row = self.conn.execute(
            "SELECT collections FROM selection WHERE id = %s", (selection,)
        ).fetchone()
        self.conn.rollback()
        assert row is not None
        return set(row[0])

    def gather(self, states: Sequence[Writer], selection: int | None = None) -> None:
        keeps = self.keeps(selection)
        fetched = [
            FetchedRepo(
                state.did,  # type: ignore[arg-type]
                1,
                state.head(),
                state.tree_records(keeps),
                state.tree_drops(keeps),
                selection,
            )
            for state in states
        ]
        assert import_fresh(self.conn, self.interner, fetched, NOW) == []

    def difference(self, before: Writer, after: Writer) -> None:
        known, blocks = before.blocks(), after.blocks()
        held = before.leaves().items()
        # A record new at its key is sent, even if it stood elsewhere before.
        moved = {cid for key, cid in after.leaves().items() if (key, cid) not in held}
        new = {cid: raw for cid, raw in blocks.items() if cid not in known}
        new |= {cid: blocks[cid] for cid in moved}
        diff = diff_of(after, new)
        assert before.rev is not None
        apply_diff(self.conn, self.interner, after.did, 1, before.rev, diff, NOW)

    def states(self, ends: Sequence[int]) -> list[Writer]:
        history = self.history
        return [s[end - 1] for s, end in zip(history.states, ends, strict=True)]

    def choose(self, keep: Sequence[str]) -> int | None:
        with self.conn.transaction():
            set_scope(self.conn, ScopeKind.NETWORK, keep=keep)
            wanted = wanted_selection(self.conn)
        return None if wanted is None else wanted.id

    def drain(self) -> None:
        while drain_outbox(self.conn, self.documents, TEXTS, 40):
            pass

    def check(self) -> dict[str, Counter[Any]]:
        """Check everything stored: recount all counts, audit all repos."""
        self.drain()
        assert recount_stats(self.conn).ok
        for writer in self.history.writers:
            found = audit_whole(self.conn, self.interner, writer.did)
            assert found.ok, found.fault
            actor = self.interner.actors([writer.did])[writer.did]
            assert count_wrong_distant_replies(self.conn, actor) == 0
            self.conn.rollback()
        held = dump(self.conn)
        held["documents"] = self._dump_documents()
        return held

    def _dump_documents(self) -> Counter[Any]:
        found = Counter(
            (d.uri, d.title, d.text, d.langs, d.tags, d.mentions, d.urls, d.features)
            for d in self.documents.records.values()
        )
        # An account without a profile is queued with its handle, or on its return.
        found.update(
            told
            for d in self.documents.actors.values()
            if any((told := (d.did, d.display_name, d.description, d.created_at))[1:])
        )
        return found


def _one_by_one(world: World) -> None:
    world.live_until(world.history.ends, most=1)


def _batched(world: World) -> None:
    world.live_until(world.history.ends)


def _one_batch(world: World) -> None:
    ends = world.history.ends
    world.apply(*world.history.mix(world.rng, [0] * len(ends), ends))


def _fetched(world: World) -> None:
    for state in world.states(world.history.ends):
        world.fetch(state)


def _gathered(world: World) -> None:
    world.claim()
    world.gather(world.states(world.history.ends))


def _compared(world: World) -> None:
    world.live_until(world.history.cut(world.rng))
    _fetched(world)


def _fetched_twice(world: World) -> None:
    for state in world.states(world.history.cut(world.rng)):
        world.fetch(state)
    _fetched(world)


def _differences(world: World) -> None:
    cut = world.history.cut(world.rng)
    world.live_until(cut)
    world.claim()
    ends = world.states(world.history.ends)
    for before, after in zip(world.states(cut), ends, strict=True):
        world.difference(before, after)


def _buffered(world: World, bring: Callable[[Sequence[int]], None]) -> None:
    """Apply what comes during a fetch, older commits included."""
    history = world.history
    middle = history.cut(world.rng)
    world.claim()
    begin = [world.rng.randrange(end + 1) for end in middle]
    world.live(history.mix(world.rng, begin, history.ends))
    bring(middle)


def _fetched_and_drained(world: World) -> None:
    def bring(middle: Sequence[int]) -> None:
        for state in world.states(middle):
            world.fetch(state)

    _buffered(world, bring)


def _compared_and_drained(world: World) -> None:
    _fetched_first(world)
    _fetched_and_drained(world)


def _fetched_first(world: World) -> None:
    for state in world.states([1] * len(world.history.writers)):
        world.fetch(state)


def _gathered_and_drained(world: World) -> None:
    _buffered(world, lambda middle: world.gather(world.states(middle)))


def _differences_and_drained(world: World) -> None:
    _fetched_first(world)
    first = world.states([1] * len(world.history.writers))

    def bring(middle: Sequence[int]) -> None:
        for before, after in zip(first, world.states(middle), strict=True):
            world.difference(before, after)

    _buffered(world, bring)


def _deleted_and_back(world: World) -> None:
    world.live_until(world.history.cut(world.rng))
    dids = [writer.did for writer in world.history.writers]
    world.apply(*(AccountEvent(did, False, "deleted", host=1) for did in dids))  # type: ignore[arg-type]
    world.drain()
    assert not world.documents.records
    account.purge_deleted(world.conn, world.interner, NOW, limit=2)
    world.apply(*(AccountEvent(did, True, host=1) for did in dids))  # type: ignore[arg-type]
    account.purge_deleted(world.conn, world.interner, NOW, limit=2)
    _fetched(world)


def _half_deleted(world: World) -> None:
    world.live_until(world.history.cut(world.rng))
    [did, *_] = [writer.did for writer in world.history.writers]
    world.apply(AccountEvent(did, False, "deleted", host=1))  # type: ignore[arg-type]
    actor = world.interner.actors([did])[did]
    account._purge_page(world.conn, world.interner, actor, NOW, None)
    world.apply(AccountEvent(did, True, host=1))  # type: ignore[arg-type]
    _fetched(world)


def _hidden_and_shown(world: World) -> None:
    _batched(world)
    for writer in world.history.writers:
        actor = world.interner.actors([writer.did])[writer.did]
        account.set_takedown(world.conn, actor, "spam")
        world.drain()
        account.set_takedown(world.conn, actor, None)


def _repaired(world: World) -> None:
    _batched(world)
    for state in world.states(world.history.ends):
        clear_repo(world.conn, world.interner, state.did, NOW, "wrong")
        world.fetch(state)


def _narrowed_and_widened(world: World) -> None:
    world.live_until(world.history.cut(world.rng))
    world.choose(["app.bsky.feed.post", "org.example.note"])
    for writer in world.history.writers:
        keep_wanted(world.conn, world.interner, writer.did, NOW)
    world.choose([])
    for writer in world.history.writers:
        keep_wanted(world.conn, world.interner, writer.did, NOW)
    _fetched(world)


WAYS: dict[str, Callable[[World], None]] = {
    "one by one": _one_by_one,
    "batched": _batched,
    "one batch": _one_batch,
    "fetched": _fetched,
    "gathered": _gathered,
    "compared": _compared,
    "fetched twice": _fetched_twice,
    "differences": _differences,
    "fetched, then drained": _fetched_and_drained,
    "compared, then drained": _compared_and_drained,
    "gathered, then drained": _gathered_and_drained,
    "differences, then drained": _differences_and_drained,
    "deleted and back": _deleted_and_back,
    "half deleted": _half_deleted,
    "hidden and shown": _hidden_and_shown,
    "repaired": _repaired,
    "narrowed and widened": _narrowed_and_widened,
}

Select = Callable[[World, Sequence[str]], None]


def _chosen_live(world: World, keep: Sequence[str]) -> None:
    world.choose(keep)
    _batched(world)


def _chosen_fetched(world: World, keep: Sequence[str]) -> None:
    number = world.choose(keep)
    for state in world.states(world.history.ends):
        world.fetch(state, number)


def _chosen_gathered(world: World, keep: Sequence[str]) -> None:
    number = world.choose(keep)
    world.claim()
    world.gather(world.states(world.history.ends), number)


def _chosen_drained(world: World, keep: Sequence[str]) -> None:
    number = world.choose(keep)

    def bring(middle: Sequence[int]) -> None:
        for state in world.states(middle):
            world.fetch(state, number)

    _buffered(world, bring)


def _pruned(world: World, keep: Sequence[str]) -> None:
    cut = world.history.cut(world.rng)
    world.live_until(cut)
    world.choose(keep)
    for writer in world.history.writers:
        keep_wanted(world.conn, world.interner, writer.did, NOW)
    world.live(world.history.mix(world.rng, cut, world.history.ends))


def _chosen_compared(world: World, keep: Sequence[str]) -> None:
    world.live_until(world.history.cut(world.rng))
    _chosen_fetched(world, keep)


SELECTED_WAYS: dict[str, Select] = {
    "live": _chosen_live,
    "fetched": _chosen_fetched,
    "gathered": _chosen_gathered,
    "fetched, then drained": _chosen_drained,
    "pruned": _pruned,
    "compared": _chosen_compared,
}
