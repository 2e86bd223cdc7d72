"""Highlights: the places of matching words in a text, and the best part to show."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Final, NamedTuple, Protocol

from search.text.emoji import EMOJI, KEYCAP, REGIONS, ZWJ
from search.text.folding import MARKS, fold
from search.text.words import (
    MAX_TOKEN_CHARS,
    camel_parts,
    clusters_of,
    joined_hyphens,
    pieces_of,
    single_a_words,
    split_piece,
    with_double_a,
)

Span = tuple[int, int]
"""Start and end of a part of a text."""

MAX_CHARS: Final = 20_000
"""Text behind is not highlighted."""
_MAX_SPANS: Final = 500
_MAX_HITS: Final = 1_000
_UNIT: Final = re.compile(
    rf"[{EMOJI}{REGIONS}](?:[\ufe0f{ZWJ}\U000e0020-\U000e007f]|(?<={ZWJ})[{EMOJI}])*"
    rf"(?:[{REGIONS}])?"
    rf"|[0-9#*]\ufe0f?{KEYCAP}"
    rf"|(?s:.)[{MARKS}\u1160-\u11ff\uff9e\uff9f]*"
)
"""A unit that normalization may join: a letter with its marks, or an emoji sequence."""
_SPACE: Final = re.compile(r"\s")


class Matched(Protocol):
    """Adjacent tokens in order, the last perhaps a prefix."""

    @property
    def tokens(self) -> tuple[str, ...]: ...
    @property
    def prefix(self) -> bool: ...


class _Place(NamedTuple):
    token: str
    start: int
    end: int
    middle: int = 0
    """End of the first character of a pair."""


class Snippet(NamedTuple):
    """A part of a text, and the spans of the matches in it."""

    text: str
    spans: list[Span]
    start: int
    """Start of the part in the text."""


def highlight(text: str, clauses: Iterable[Matched]) -> list[Span]:
    """Return the UTF-8 byte offsets of the words that match a clause, in order."""
    return byte_spans(text, find_spans(text, clauses))


def byte_spans(text: str, spans: Sequence[Span]) -> list[Span]:
    """Return the UTF-8 byte offsets of spans of characters, given in order."""
    if text.isascii():
        return list(spans)
    found: list[Span] = []
    at = size = 0
    for start, end in spans:
        first = size + _size(text[at:start])
        size = first + _size(text[start:end])
        found.append((first, size))
        at = end
    return found


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def find_spans(text: str, clauses: Iterable[Matched]) -> list[Span]:
    """Return the spans in characters of the words that match a clause, in order."""
    text = text[:MAX_CHARS]
    folded, origins = _fold_with_origins(text)
    main, other = _places(text, folded, origins)
    index: dict[str, list[int]] = defaultdict(list)
    for number, place in enumerate(main):
        index[place.token].append(number)
    further: dict[str, list[_Place]] = defaultdict(list)
    for place in other:
        further[place.token].append(place)
    spans: set[Span] = set()
    distinct = {(clause.tokens, clause.prefix): clause for clause in clauses}
    for clause in distinct.values():
        spans.update(islice(_matches(clause, main, index), _MAX_HITS))
        spans.update(islice(_further_matches(clause, further), _MAX_HITS))
    return _joined(sorted(spans))[:_MAX_SPANS]


def snippet(text: str, spans: Sequence[Span], length: int = 200) -> Snippet:
    """Return the part of about `length` characters that holds the most matches.

    Spans are of characters. The part begins and ends at spaces where there are some.
    """
    if len(text) <= length:
        return Snippet(text, list(spans), 0)
    start = _best_start([s for s in spans if s[0] < len(text)], length)
    start = min(start, len(text) - length)
    if start > 0:
        space = _SPACE.search(text, start, start + length // 5)
        start = space.end() if space else start
    end = min(len(text), start + length)
    if end < len(text):
        for at in range(end, end - length // 5, -1):
            if text[at].isspace():
                end = at
                break
    kept = [(a - start, min(b, end) - start) for a, b in spans if start <= a < end]
    return Snippet(text[start:end], kept, start)


def _best_start(spans: Sequence[Span], length: int) -> int:
    """Return where a window begins that holds the most spans, and space before."""
    if not spans:
        return 0
    ends = [end for _, end in spans]
    best, most = 0, 0
    for number, (start, _) in enumerate(spans):
        count = bisect_right(ends, start + length * 3 // 4) - number
        if count > most:
            best, most = start, count
    return max(0, best - length // 4)


def _fold_with_origins(text: str) -> tuple[str, list[int] | None]:
    """Return the folded text, and the start of each folded character in the text.

    The last number is the length of the text. None stands for equal places.
    """
    if text.isascii():
        return fold(text), None
    parts: list[str] = []
    origins: list[int] = []
    for unit in _UNIT.finditer(text):
        folded = fold(unit.group())
        parts.append(folded)
        origins += [unit.start()] * len(folded)
    origins.append(len(text))
    return "".join(parts), origins


def _places(
    text: str, folded: str, origins: list[int] | None
) -> tuple[list[_Place], list[_Place]]:
    """Return the places of the tokens of words, and of all further ones."""
    main: list[_Place] = []
    other: list[_Place] = []

    def place(token: str, start: int, end: int) -> _Place:
        if origins is None:
            return _Place(token, start, end)
        return _Place(token, origins[start], _end(origins, end))

    for match in pieces_of(folded).finditer(folded):
        piece, kind = match.group(), match.lastgroup
        start, end = match.span()
        tokens, more = split_piece(piece, kind)
        if kind in ("pairs", "clusters"):
            sizes = map(len, piece if kind == "pairs" else clusters_of(piece))
            edges = [start, *(start + size for size in accumulate(sizes))]
            step = 2 if len(edges) > 2 else 1
            for number, token in enumerate(tokens):
                pair = place(token, edges[number], edges[number + step])
                middle = place(token, edges[number], edges[number + 1]).end
                main.append(pair._replace(middle=middle))
            other += (place(token, edges[-2], end) for token in more)
            continue
        main += (place(token, start, end) for token in tokens)
        whole = place(piece, start, end)
        written = text[whole.start : whole.end]
        more = [*more, *camel_parts(written)]
        if "å" in written or "Å" in written:
            more.append(with_double_a(written[:MAX_TOKEN_CHARS]))
        other += (whole._replace(token=token) for token in more)
    for start, end, token in (*joined_hyphens(folded), *single_a_words(folded)):
        other.append(place(token, start, end))
    return main, other


def _end(origins: list[int], end: int) -> int:
    """Return the end in the text of what ends in the folded text before `end`."""
    last = origins[end - 1]
    # Several folded characters may come from one.
    return origins[bisect_right(origins, last)]


def _matches(
    clause: Matched, main: Sequence[_Place], index: dict[str, list[int]]
) -> Iterator[Span]:
    tokens = clause.tokens
    if not tokens:
        return
    *first, last = tokens
    if not first and clause.prefix:
        for place in main:
            if place.token == last:
                yield place.start, place.end
            elif place.token.startswith(last):
                yield place.start, place.middle or place.end
        return
    rarest = min(
        range(len(first) if clause.prefix else len(tokens)),
        key=lambda i: len(index.get(tokens[i], ())),
    )
    for number in index.get(tokens[rarest], ())[:_MAX_HITS]:
        begin = number - rarest
        end = begin + len(tokens)
        if begin < 0 or end > len(main):
            continue
        found = main[begin:end]
        if [p.token for p in found[:-1]] == first and (
            found[-1].token == last
            or (clause.prefix and found[-1].token.startswith(last))
        ):
            yield found[0].start, found[-1].end


def _further_matches(
    clause: Matched, further: dict[str, list[_Place]]
) -> Iterator[Span]:
    if len(clause.tokens) == 1:
        wanted = clause.tokens[0]
        for token, places in further.items():
            if token == wanted or (clause.prefix and token.startswith(wanted)):
                for place in places:
                    yield place.start, place.end


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Return ordered spans without those that touch the one before."""
    joined: list[Span] = []
    for start, end in spans:
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined
