"""Regular expressions in linear time, for patterns that anybody may write.

A pattern becomes a nondeterministic automaton, whose sets of states are numbered as a
text reaches them. So each character costs one lookup, and no pattern backtracks. There
are no groups to refer to, no lookaround, and case does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

MAX_PATTERN_CHARS: Final = 500
MAX_STATES: Final = 500
"""States of the automaton: repetitions with numbers multiply them."""
MAX_VISITS: Final = 50_000
"""States that are visited in one text; beyond, the pattern does not occur."""
_MAX_REPEAT: Final = 100
_MAX_DEPTH: Final = 20
_MAX_KNOWN: Final = 20_000
"""States in the steps that are remembered; then all are forgotten."""

Test = Callable[[str], bool]


class InvalidPatternError(ValueError):
    """The pattern is malformed or too large; the message says why."""


@dataclass(slots=True)
class _State:
    """A state: it reads a character, or goes on without one.

    `edge` limits a step without a character to a place: the start or end of the text,
    a border of a word, or none.
    """

    test: Test | None = None
    edge: str = ""
    after: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Part:
    """A part of the automaton with one first and one last state."""

    first: int
    last: int


class _Node:
    """A set of states behind a kind of character; steps to others are remembered.

    `before` stands for all characters of its kind: "" at the start of the text, a word
    character, or another.
    """

    __slots__ = ("after", "before", "size", "states")

    def __init__(self, states: frozenset[int], before: str) -> None:
        self.states = states
        self.before = before
        self.size = len(states) + 1
        self.after: dict[str, _Node | None] = {}
        """By character; None: the pattern has occurred."""


class Pattern:
    """A compiled pattern: `found_in(text)`. Raises InvalidPatternError."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._states, whole = _Reader(source).read()
        self._first, self._last = whole.first, whole.last
        self._forget()

    def found_in(self, text: str) -> bool:
        """Return True if the pattern occurs anywhere in a text."""
        node, visits = self._start, 0
        for character in (*text.casefold(), ""):
            try:
                following = node.after[character]
            except KeyError:
                following = self._remember(node, character)
            if following is None:
                return True
            node = following
            visits += node.size
            if visits > MAX_VISITS:
                return False
        return False

    def _forget(self) -> None:
        self._start = _Node(frozenset(), "")
        self._nodes: dict[tuple[frozenset[int], str], _Node] = {}
        self._known = 0

    def _remember(self, node: _Node, character: str) -> _Node | None:
        """Return the node after a character, None if the pattern has occurred."""
        states = self._step(node.states, node.before, character)
        if self._known > _MAX_KNOWN:
            self._forget()
        self._known += 1
        if states is None:
            node.after[character] = None
            return None
        key = states, "a" if character and _is_word(character) else " "
        found = self._nodes.get(key)
        if found is None:
            found = self._nodes[key] = _Node(*key)
            self._known += found.size
        node.after[character] = found
        return found

    def _step(
        self, states: frozenset[int], before: str, character: str
    ) -> frozenset[int] | None:
        """Return the states after a character, None if the pattern has occurred."""
        reached = self._close((self._first, *states), before, character)
        if self._last in reached:
            return None
        return frozenset(
            after
            for number in reached
            if (test := self._states[number].test) and character and test(character)
            for after in self._states[number].after
        )

    def _close(self, states: Iterable[int], before: str, after: str) -> set[int]:
        """Return the states that are reached without a character."""
        border = _is_word(before) != _is_word(after)
        holds = {
            "": True,
            "^": not before,
            "$": not after,
            "b": border,
            "B": not border,
        }
        reached: set[int] = set()
        waiting = [*states]
        while waiting:
            number = waiting.pop()
            if number in reached:
                continue
            state = self._states[number]
            if state.test is None and not holds[state.edge]:
                continue
            reached.add(number)
            if state.test is None:
                waiting += state.after
        return reached


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _is_any(character: str) -> bool:
    return character != "\n"


_CLASSES: Final[dict[str, Test]] = {
    "w": _is_word,
    "W": lambda c: not _is_word(c),
    "d": str.isdecimal,
    "D": lambda c: not c.isdecimal(),
    "s": str.isspace,
    "S": lambda c: not c.isspace(),
}
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}
_SPECIAL: Final = frozenset(r"\.[](){}*+?|^$/-\"'#&~ @:!%=<>,;`_")


class _Reader:
    """The parser: alternatives of sequences of repeated items."""

    def __init__(self, source: str) -> None:
        if len(source) > MAX_PATTERN_CHARS:
            raise InvalidPatternError(f"longer than {MAX_PATTERN_CHARS} characters")
        self._source = source
        self._at = 0
        self._depth = 0
        self._states: list[_State] = []

    def read(self) -> tuple[list[_State], _Part]:
        if not self._source:
            raise InvalidPatternError("an empty pattern finds everything")
        whole = self._alternatives()
        if self._at < len(self._source):
            raise InvalidPatternError("a ) without its (")
        return self._states, whole

    def _add(self, state: _State) -> int:
        if len(self._states) >= MAX_STATES:
            raise InvalidPatternError("the pattern is too large: repeat less")
        self._states.append(state)
        return len(self._states) - 1

    def _single(self, state: _State) -> _Part:
        first, last = self._add(state), self._add(_State())
        state.after.append(last)
        return _Part(first, last)

    def _peek(self) -> str:
        return self._source[self._at : self._at + 1]

    def _take(self) -> str:
        taken = self._peek()
        self._at += 1
        return taken

    def _alternatives(self) -> _Part:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise InvalidPatternError(f"more than {_MAX_DEPTH} groups in another")
        parts = [self._sequence()]
        while self._peek() == "|":
            self._take()
            parts.append(self._sequence())
        self._depth -= 1
        return self._either(parts)

    def _either(self, parts: list[_Part]) -> _Part:
        if len(parts) == 1:
            return parts[0]
        last = self._add(_State())
        for part in parts:
            self._states[part.last].after.append(last)
        return _Part(self._add(_State(after=[p.first for p in parts])), last)

    def _sequence(self) -> _Part:
        whole = self._single(_State())
        while self._peek() not in ("", "|", ")"):
            part = self._repeated()
            self._states[whole.last].after.append(part.first)
            whole = _Part(whole.first, part.last)
        return whole

    def _repeated(self) -> _Part:
        start = self._at
        part = self._item()
        end = self._at
        least, most = self._read_count()
        if (least, most) == (1, 1):
            return part
        if self._peek() and self._peek() in "*+?{":
            raise InvalidPatternError(f"two repetitions at {self._source[start:]!r}")
        # Each turn is read again, since a part of the automaton stands once.
        after, parts = self._at, [part]
        for _ in range(1, max(least, most or least, 1)):
            self._at = start
            parts.append(self._item())
        assert self._at in (end, after)
        self._at = after
        return self._chain(parts, least, most)

    def _chain(self, parts: list[_Part], least: int, most: int | None) -> _Part:
        first, last = self._add(_State()), self._add(_State())
        before = first
        for turn, part in enumerate(parts):
            if turn >= least:
                self._states[before].after.append(last)
            self._states[before].after.append(part.first)
            before = part.last
        self._states[before].after.append(last)
        if most is None:
            self._states[parts[-1].last].after.append(parts[-1].first)
        return _Part(first, last)

    def _read_count(self) -> tuple[int, int | None]:
        sign = self._peek()
        simple: dict[str, tuple[int, int | None]] = {
            "*": (0, None),
            "+": (1, None),
            "?": (0, 1),
        }
        if sign in simple:
            self._take()
            if self._peek() == "?":
                # It would only change the length of what is found.
                self._take()
            return simple[sign]
        if sign != "{":
            return 1, 1
        inner, close, _ = self._source[self._at + 1 :].partition("}")
        least, comma, most = inner.partition(",")
        numbers = [least, *([most] if most else [])]
        if not close or not all(n.isascii() and n.isdecimal() for n in numbers):
            raise InvalidPatternError("write { as \\{, or a repetition as {2,5}")
        low = int(least[:9])
        high = int(most[:9]) if most else None if comma else low
        if max(low, high or 0) > _MAX_REPEAT:
            raise InvalidPatternError(f"more than {_MAX_REPEAT} repetitions")
        if high is not None and (high < low or high == 0):
            raise InvalidPatternError(f"{{{inner}}} is no range")
        self._at += len(inner) + 2
        return low, high

    def _item(self) -> _Part:
        character = self._take()
        if character == "(":
            return self._group()
        if character == "[":
            return self._single(_State(self._read_set()))
        if character == "\\":
            return self._escape()
        if character == ".":
            return self._single(_State(_is_any))
        if character in "^$":
            return self._single(_State(edge=character))
        if character in "*+?{":
            raise InvalidPatternError(f"nothing to repeat before {character}")
        return self._literal(character)

    def _literal(self, character: str) -> _Part:
        folded = character.casefold()
        whole = self._single(_State(folded[0].__eq__))
        for further in folded[1:]:
            part = self._single(_State(further.__eq__))
            self._states[whole.last].after.append(part.first)
            whole = _Part(whole.first, part.last)
        return whole

    def _group(self) -> _Part:
        if self._peek() == "?":
            if self._source[self._at : self._at + 2] != "?:":
                raise InvalidPatternError("(?…) is not supported, except (?:…)")
            self._at += 2
        part = self._alternatives()
        if self._take() != ")":
            raise InvalidPatternError("a ( without its )")
        return part

    def _escape(self) -> _Part:
        name = self._take()
        if name in ("b", "B"):
            return self._single(_State(edge=name))
        if name in _CLASSES:
            return self._single(_State(_CLASSES[name]))
        return self._literal(_escaped(name))

    def _read_set(self) -> Test:
        negated = self._peek() == "^"
        if negated:
            self._take()
        characters: set[str] = set()
        ranges: list[tuple[str, str]] = []
        tests: list[Test] = []
        is_first = True
        while is_first or self._peek() != "]":
            low = self._take()
            if not low:
                raise InvalidPatternError("a [ without its ]")
            is_first = False
            if low == "\\":
                name = self._take()
                if name in _CLASSES:
                    tests.append(_CLASSES[name])
                    continue
                low = _escaped(name)
            following = self._source[self._at + 1 : self._at + 2]
            if self._peek() == "-" and following not in ("", "]"):
                self._take()
                high = self._take()
                if high == "\\":
                    high = _escaped(self._take())
                if high < low:
                    raise InvalidPatternError(f"{low}-{high} is no range")
                ranges.append((low, high))
            else:
                characters.update(low.casefold())
        self._take()
        return _make_set(frozenset(characters), tuple(ranges), tuple(tests), negated)


def _make_set(
    characters: frozenset[str],
    ranges: tuple[tuple[str, str], ...],
    tests: tuple[Test, ...],
    negated: bool,
) -> Test:
    def is_in(character: str) -> bool:
        # Texts are folded, ranges are as written: [A-Z] holds `a` too.
        cases = (character, character.upper())
        found = character in characters or any(
            low <= case <= high for low, high in ranges for case in cases
        )
        return (found or any(test(character) for test in tests)) != negated

    return is_in


def _escaped(name: str) -> str:
    if name in _ESCAPES:
        return _ESCAPES[name]
    if not name or (name.isascii() and name not in _SPECIAL):
        raise InvalidPatternError(f"\\{name} is not supported")
    return name
