"""The parameters of For You, by name."""

from __future__ import annotations

from dataclasses import dataclass

_DAY: int = 86_400


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of the published formula, and the bounds of this module.

    A path leads from the viewer to a liked post, to a liker of it, and to another post
    of that liker. docs/for-you.md has the formula.
    """

    likes: int = 500
    """The newest likes of the viewer, and of each co-liker, that count."""
    likers: int = 500
    """The newest likers of a liked post that count."""
    co_likers: int = 10_000
    """The strongest co-likers that count."""
    window_s: int = 7 * _DAY
    """Seconds after which a post is no candidate."""
    half_life_s: int = _DAY
    """Seconds in which the score of a post halves."""
    path_exponent: float = 0.3
    """Exponent of the number of co-likers that like a post."""
    author_affinity: float = 1.0
    """Boost of an author whom all of the viewer's likes went to; others in part."""
    less_liker: float = 0.5
    """Factor of a co-liker for each post of theirs of which the viewer saw too much."""
    less_author: float = 0.25
    """Factor of an author for each post of which the viewer saw too much."""
    steps: int = 40_000
    """Paths of a ranking. With more, older likes of co-likers do not count."""
    candidates: int = 400
    """The best posts that are looked up in the index."""
    results: int = 300
    """Posts of a ranking."""
    settle_s: int = 60
    """Seconds after which all serving processes know a like."""
    hold_s: int = 30
    """Seconds in which first pages share a ranking."""
    min_results: int = 60
    """Posts below which a ranking goes on with popular ones."""
    history_s: int = 30 * _DAY
    """Seconds of likes that are held in memory."""
    max_likes: int = 12_000_000
    """The newest likes that are held in memory."""


PUBLISHED = Parameters()
"""The values that the feed is served with."""
