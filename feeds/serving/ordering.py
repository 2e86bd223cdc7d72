"""The order of a chunk of posts: scores, turns of sources, and diversity.

Pure functions of rows that were read before, so that explanations repeat them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from zlib import crc32

from feeds.recipes.recipe import Diversity, Rank, RankBy, Source
from feeds.serving.candidates import Key
from feeds.serving.post_facts import Facts, linked_domains
from storage.records.addresses import Address

_HOUR: Final = 3_600_000_000
_MAX_DEFERRED: Final = 100
"""Posts that wait for their turn and are tried at each place."""


@dataclass(frozen=True, slots=True)
class Found:
    """A post of some sources, one bit each; `key` is its place by time.

    `pinned` posts are first.
    """

    key: Key
    post: Address
    sources: int
    repost: Address | None = None
    score: float = 0.0
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Inputs:
    """Rows of a chunk that its order depends on. `now` is in microseconds."""

    now: int
    facts: Mapping[Address, Facts]
    lately: Mapping[int, int]
    in_common: Mapping[Address, float]
    values: Mapping[Address, dict[str, Any]]


def score(found: Found, by: RankBy, rank: Rank, inputs: Inputs) -> float:
    """Return the score of a post, 0 if it is ordered by time."""
    if by is RankBy.LATEST:
        return 0.0
    if by is RankBy.RANDOM:
        text = f"{inputs.now // _HOUR} {found.post.actor} {found.post.rkey}"
        return crc32(text.encode()) / 2**32
    facts = inputs.facts.get(found.post) or Facts(found.key.at, found.post)
    hours = max(0.0, (inputs.now - facts.at) / _HOUR)
    age: float = (hours + rank.offset_hours) ** rank.gravity
    if by is RankBy.QUIET:
        return 1.0 / (1 + inputs.lately.get(found.post.actor, 0)) / age
    if by is RankBy.CO_LIKES:
        return inputs.in_common.get(found.post, 0.0) / age
    return count_reactions(facts, rank) / age


def count_reactions(facts: Facts, rank: Rank) -> float:
    """Return the weighted number of reactions."""
    return (
        facts.likes * rank.likes
        + facts.reposts * rank.reposts
        + facts.replies * rank.replies
        + facts.quotes * rank.quotes
    )


def merge(
    found: Sequence[Found],
    sources: Sequence[tuple[int, Source]],
    rank: Rank,
    inputs: Inputs,
) -> list[Found]:
    """Return posts in one order; the greatest weight of their sources counts."""
    weights = {1 << bit: source.weight for bit, source in sources}
    scored = [
        replace(
            each,
            score=score(each, rank.by, rank, inputs)
            * max((w for bit, w in weights.items() if each.sources & bit), default=1.0),
        )
        for each in found
    ]
    return _sorted(scored)


def interleave(
    found: Sequence[Found],
    sources: Sequence[tuple[int, Source]],
    rank: Rank,
    inputs: Inputs,
) -> list[Found]:
    """Return posts in turns of their sources, each post once."""
    queues: list[tuple[float, deque[Found]]] = []
    for bit, source in sources:
        mine = [each for each in found if each.sources & (1 << bit)]
        by = source.rank or rank.by
        scored = [replace(e, score=score(e, by, rank, inputs)) for e in mine]
        queues.append((source.weight, deque(_sorted(scored))))
    credits = [0.0] * len(queues)
    taken: set[Hashable] = set()
    mixed: list[Found] = []
    while any(queue for _, queue in queues):
        for place, (weight, queue) in enumerate(queues):
            credits[place] += weight if queue else 0.0
        total = sum(weight for weight, queue in queues if queue)
        turn = max(
            (place for place, (_, queue) in enumerate(queues) if queue),
            key=lambda place: (credits[place], -place),
        )
        each = queues[turn][1].popleft()
        if each.post in taken:
            continue
        credits[turn] -= total
        taken.add(each.post)
        mixed.append(each)
    return mixed


def _sorted(found: Sequence[Found]) -> list[Found]:
    return sorted(found, key=lambda each: (each.score, each.key), reverse=True)


def spread(
    found: Sequence[Found], diversity: Diversity, inputs: Inputs
) -> tuple[list[Found], list[Found]]:
    """Return posts within the limits of diversity, and those that found no place.

    A post over a limit waits for the next place that it may have.
    """
    if not diversity.is_limited:
        return [*found], []
    keys = _limits(diversity, inputs)
    window: deque[list[Hashable]] = deque()
    counts: Counter[Hashable] = Counter()
    placed: list[Found] = []
    waiting: deque[Found] = deque()
    rest = deque(found)
    dropped: list[Found] = []

    def fits(each: Found) -> bool:
        return all(counts[key] < most for key, most in keys(each))

    def next_fitting() -> Found | None:
        for each in waiting:
            if fits(each):
                waiting.remove(each)
                return each
        while rest:
            each = rest.popleft()
            if fits(each):
                return each
            waiting.append(each)
            if len(waiting) > _MAX_DEFERRED:
                dropped.append(waiting.popleft())
        return None

    while (each := next_fitting()) is not None:
        placed.append(each)
        window.append([key for key, _ in keys(each)])
        counts.update(window[-1])
        if len(window) >= diversity.spread:
            counts.subtract(window.popleft())
    return placed, [*dropped, *waiting]


Limits = Callable[[Found], list[tuple[Hashable, int]]]


def _limits(diversity: Diversity, inputs: Inputs) -> Limits:
    def keys(each: Found) -> list[tuple[Hashable, int]]:
        limits: list[tuple[Hashable, int]] = []
        if diversity.per_author is not None:
            limits.append((("author", each.post.actor), diversity.per_author))
        if diversity.per_thread is not None:
            facts = inputs.facts.get(each.post)
            root = facts.root if facts is not None else each.post
            limits.append((("thread", root), diversity.per_thread))
        if diversity.per_domain is not None:
            value = inputs.values.get(each.post, {})
            for domain in linked_domains(value):
                limits.append((("domain", domain), diversity.per_domain))
        return limits

    return keys
