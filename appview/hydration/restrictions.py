"""Blocks between the accounts of one answer, and gates of its posts.

`settle` loads them for everything loaded so far, one query of each kind. Every reader
calls it; it is cheap when nothing is new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from appview.hydration.blocks import Block, Pair, load_blocks
from appview.hydration.gates import (
    FOLLOWER_RULE,
    FOLLOWING_RULE,
    MENTION_RULE,
    PostGate,
    ThreadGate,
    load_follows,
    load_members,
    load_replies,
    mentioned_dids,
    postgate_address,
    predates,
    read_postgate,
    read_threadgate,
    threadgate_address,
)
from appview.hydration.known_followers import MAX_SHOWN as MAX_KNOWN
from appview.hydration.records import POST, Post, load_records
from storage.records.addresses import Address, find_actors, find_addresses
from storage.records.record_allowance import Allowance

if TYPE_CHECKING:
    from datetime import datetime

    from appview.hydration.state import State

MAX_GATE_BYTES: Final = 1_000_000
MAX_GATE_ITEMS: Final = 50_000
"""Bounds of the gates loaded together, the smallest first.

Each load has its own, or large gates would open the threads behind them.
"""
_ROUNDS: Final = 4
"""Rounds of a load: roots and lists bring accounts of their own."""
_UNKNOWN: Final = -1
"""The actor id of a viewer that the index does not know."""


class _Answer(NamedTuple):
    """A reply, and the thread whose gate applies to it."""

    root: Address
    address: Address
    parent: Address | None
    sort_at: datetime


class Restrictions:
    """Blocks between accounts, gates of posts, and posts that do not comply."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._settled = (0, 0)
        self._posts: set[Address] = set()
        self._actors: set[int] = set()
        self._pairs: set[Pair] = set()
        self._blocks: dict[Pair, Block] = {}
        self._threadgates: dict[Address, ThreadGate | None] = {}
        self._postgates: dict[Address, PostGate | None] = {}
        self._mentioned: dict[Address, set[str]] = {}
        self._mentioned_actors: dict[str, int] = {}
        self._follows: set[Pair] = set()
        self._members: set[tuple[Address, int]] = set()
        self._violators: set[Address] = set()
        self._uncounted: Counter[Address] = Counter()

    def block(self, blocker: int, blocked: int) -> Block | None:
        """Return how the first account blocks the second."""
        if blocker == blocked:
            return None
        self.settle()
        if (blocker, blocked) not in self._pairs:
            self.load_pairs([(blocker, blocked)])
        return self._blocks.get((blocker, blocked))

    def is_blocked(self, one: int, other: int) -> bool:
        """Return True if either account blocks the other."""
        return (self.block(one, other) or self.block(other, one)) is not None

    def threadgate(self, root: Address) -> ThreadGate | None:
        """Return the gate of a thread whose posts are loaded."""
        self.settle()
        return self._threadgates.get(root)

    def postgate(self, post: Address) -> PostGate | None:
        """Return the gate of a post that is loaded or quoted by one."""
        self.settle()
        return self._postgates.get(post)

    def violates(self, post: Address) -> bool:
        """Return True for a reply that its thread's gate forbids."""
        self.settle()
        return post in self._violators

    def uncounted(self, post: Address) -> int:
        """Return the number of replies to a post that gates forbid."""
        self.settle()
        return self._uncounted[post]

    def may_reply(self, post: Post) -> bool | None:
        """Return True if the viewer may reply; None in a thread without a gate."""
        viewer = self._state.session.viewer
        root = post.root or post.record.address
        if self.violates(post.record.address):
            return False
        gate = self.threadgate(root)
        if viewer is None or gate is None:
            return None
        actor = _UNKNOWN if viewer.actor is None else viewer.actor
        return self._complies(gate, root, actor, viewer.did)

    def may_quote(self, post: Address) -> bool:
        """Return True if the viewer may quote a post."""
        gate = self.postgate(post)
        own = post.actor == self._state.session.viewer_actor
        return own or gate is None or not gate.disabled

    def violates_postgate(self, quoting: Post, quoted: Address) -> bool:
        """Return True if a post quotes one whose gate forbids it."""
        gate = self.postgate(quoted)
        if gate is None or not gate.disabled:
            return False
        if quoting.record.address.actor == quoted.actor:
            return False
        subject = self._state.posts.get(quoted)
        return not predates(quoting.sort_at, gate.made_us, subject)

    def settle(self) -> None:
        """Load blocks and gates for everything loaded so far."""
        state = self._state
        for _ in range(_ROUNDS):
            sizes = len(state.posts), len(state.loaded_actors)
            if sizes == self._settled:
                return
            self._settled = sizes
            posts = [p for a, p in state.posts.items() if a not in self._posts]
            actors = state.loaded_actors - self._actors
            self._posts.update(post.record.address for post in posts)
            self._actors |= actors
            viewer = state.session.viewer_actor
            pairs = self._party_pairs(posts)
            if viewer is not None:
                pairs += [(viewer, actor) for actor in actors]
                # A missing parent counts too: its author hides the item in a feed.
                pairs += [(viewer, p.parent.actor) for p in posts if p.parent]
                pairs += [
                    (actor, other)
                    for actor in actors
                    for other in state.known_followers.get(actor, ())[:MAX_KNOWN]
                ]
            self.load_pairs(pairs)
            if posts:
                self._load_gates(posts)

    def load_pairs(self, pairs: Iterable[Pair]) -> None:
        """Load blocks between the accounts of each pair, in both directions."""
        wanted = {(a, b) for one, two in pairs for a, b in ((one, two), (two, one))}
        wanted -= self._pairs
        if not wanted:
            return
        self._pairs |= wanted
        state = self._state
        found = load_blocks(state.session.conn, wanted)
        self._blocks |= found
        viewer = state.session.viewer_actor
        own = [block for (blocker, _), block in found.items() if blocker == viewer]
        state.name_rkeys(block.record for block in own)
        state.load_lists(block.list for block in own if block.list is not None)

    def _party_pairs(self, posts: Iterable[Post]) -> list[Pair]:
        """Return authors paired with the authors that they reply to and quote."""
        return [
            (post.record.address.actor, other.actor)
            for post in posts
            for other in (post.parent, post.root, self._state.quoted(post))
            if other is not None and other.actor != post.record.address.actor
        ]

    def _load_gates(self, posts: list[Post]) -> None:
        state = self._state
        roots = {p.root or p.record.address for p in posts} - self._threadgates.keys()
        gated = {q for p in posts if (q := state.quoted(p)) and q.collection == POST}
        if state.session.viewer is not None:
            gated |= {post.record.address for post in posts}
        gated -= self._postgates.keys()
        state.name(roots | gated)
        records = load_records(
            state.session.conn,
            {threadgate_address(root) for root in roots}
            | {postgate_address(post) for post in gated},
            Allowance(MAX_GATE_BYTES, MAX_GATE_ITEMS),
        )
        for root in roots:
            record = records.get(threadgate_address(root))
            uri = state.uris.get(root, "")
            self._threadgates[root] = read_threadgate(record, uri) if record else None
        for post in gated:
            record = records.get(postgate_address(post))
            uri = state.uris.get(post, "")
            self._postgates[post] = read_postgate(record, uri) if record else None
        self._judge(posts)

    def _judge(self, posts: list[Post]) -> None:
        """Find posts, and replies to them, that a gate forbids."""
        state = self._state
        threads = {
            post.record.address: closed
            for post in posts
            if (closed := [r for r in self._threads(post) if self._is_closed(r)])
        }
        if not threads:
            return
        conn = state.session.conn
        roots = {root for closed in threads.values() for root in closed}
        self._load_roots(roots)
        answers = [
            _Answer(root, post.record.address, None, post.sort_at)
            for post in posts
            if post.parent is not None
            for root in threads.get(post.record.address, ())
        ]
        answers += [
            _Answer(root, reply.address, reply.parent, reply.sort_at)
            for reply in load_replies(conn, threads)
            for root in {*threads[reply.parent], reply.root}
            if self._is_closed(root)
        ]
        self._load_relations({(a.root, a.address.actor) for a in answers}, roots)
        not_counted = set()
        for answer in answers:
            if self._allows(answer):
                continue
            if answer.parent is None:
                self._violators.add(answer.address)
            else:
                not_counted.add((answer.address, answer.parent))
        self._uncounted.update(parent for _, parent in not_counted)

    def _threads(self, post: Post) -> set[Address]:
        """Return the roots whose gates apply to a post.

        Those are the root that it names and that of its parent: the first may be wrong.
        """
        roots = {post.root or post.record.address}
        parent = self._state.posts.get(post.parent) if post.parent else None
        if parent is not None:
            roots.add(parent.root or parent.record.address)
        return roots

    def _is_closed(self, root: Address) -> bool:
        gate = self._threadgates.get(root)
        return gate is not None and gate.closed

    def _load_roots(self, roots: set[Address]) -> None:
        state = self._state
        state.load_posts(roots, quotes=0)
        lists: set[str] = set()
        for root in roots:
            gate = self._threadgates[root]
            post = state.posts.get(root)
            assert gate is not None
            lists |= {*gate.lists}
            if post is not None and MENTION_RULE in gate.kinds:
                self._mentioned[root] = mentioned_dids(post.record.value)
        conn = state.session.conn
        state.by_uri |= find_addresses(conn, lists - state.by_uri.keys())
        state.load_lists(state.by_uri[uri] for uri in lists if uri in state.by_uri)
        dids = {did for root in roots for did in self._mentioned.get(root, ())}
        if dids:
            self._mentioned_actors |= find_actors(conn, dids)

    def _load_relations(
        self, repliers: set[tuple[Address, int]], roots: set[Address]
    ) -> None:
        state = self._state
        viewer = state.session.viewer_actor
        if viewer is not None:
            repliers |= {(root, viewer) for root in roots}
        follows: set[Pair] = set()
        members: set[tuple[Address, int]] = set()
        for root, replier in repliers:
            gate = self._threadgates[root]
            assert gate is not None
            if FOLLOWER_RULE in gate.kinds:
                follows.add((replier, root.actor))
            if FOLLOWING_RULE in gate.kinds:
                follows.add((root.actor, replier))
            members |= {
                (state.by_uri[uri], replier)
                for uri in gate.lists
                if uri in state.by_uri
            }
        if follows:
            self._follows |= load_follows(state.session.conn, follows)
        self._members |= load_members(state.session.conn, members)

    def _allows(self, answer: _Answer) -> bool:
        gate = self._threadgates[answer.root]
        assert gate is not None
        root = self._state.posts.get(answer.root)
        return predates(answer.sort_at, gate.made_us, root) or self._complies(
            gate, answer.root, answer.address.actor
        )

    def _complies(
        self, gate: ThreadGate, root: Address, replier: int, did: str = ""
    ) -> bool:
        """Return True if the gate lets an account reply."""
        if not gate.closed or replier == root.actor:
            return True
        mentioned = self._mentioned.get(root, set())
        if did in mentioned or replier in _numbers(self._mentioned_actors, mentioned):
            return True
        if FOLLOWER_RULE in gate.kinds and (replier, root.actor) in self._follows:
            return True
        if FOLLOWING_RULE in gate.kinds and (root.actor, replier) in self._follows:
            return True
        by_uri = self._state.by_uri
        return any((by_uri.get(u), replier) in self._members for u in gate.lists)


def _numbers(actors: Mapping[str, int], dids: set[str]) -> set[int]:
    return {actors[did] for did in dids if did in actors}
