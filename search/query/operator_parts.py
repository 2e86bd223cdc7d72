"""Operators of a query text by place, for pages that add and remove them."""

from __future__ import annotations

from dataclasses import dataclass

from search.query.operators import FILTERS, OPERATORS, InvalidQueryError, read_value
from search.query.parser import CHARACTERS, PART


@dataclass(frozen=True, slots=True)
class OperatorPart:
    """An operator outside of parentheses, from `start` to `end` of the text."""

    name: str
    value: str
    negated: bool
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class QueryParts:
    """The operators of a query text. `has_or` is True if OR joins its parts."""

    text: str
    operators: tuple[OperatorPart, ...]
    has_or: bool

    def without(self, *parts: OperatorPart) -> str:
        """Return the text without some operators."""
        kept, at = [], 0
        for part in sorted(parts, key=lambda part: part.start):
            kept.append(self.text[at : part.start].strip())
            at = part.end
        kept.append(self.text[at:].strip())
        return " ".join(filter(None, kept))

    def find(self, operator: str) -> OperatorPart | None:
        """Return the operator that means the same as `name:value`."""
        name, _, value = operator.partition(":")
        wanted = _meaning(name, value)
        for part in self.operators:
            if not part.negated and _meaning(part.name, part.value) == wanted:
                return part
        return None


def find_operators(text: str) -> QueryParts:
    """Return the operators of a query text, as the parser reads them."""
    found: list[OperatorPart] = []
    has_or = False
    depth = at = 0
    plain = text.translate(CHARACTERS)
    while match := PART.match(plain, at):
        at = match.end()
        if match["or"]:
            has_or = has_or or depth == 0
            continue
        if match["open"]:
            depth += 1
            continue
        word = match["value"] or match["bare"] or ""
        if depth:
            depth -= min(depth, len(word) - len(word.rstrip(")")))
            continue
        name = (match["op"] or "").lower()
        if name in OPERATORS:
            value = match["quoted"] if match["quoted"] is not None else word
            start = at - len(match.group().lstrip())
            found.append(OperatorPart(name, value, bool(match["neg"]), start, at))
    return QueryParts(text, tuple(found), has_or)


def add_operator(text: str, operator: str) -> str:
    """Return a query text narrowed by an operator."""
    if not text.strip():
        return operator
    if find_operators(text).has_or:
        text = f"({text.strip()})"
    return f"{text.strip()} {operator}"


def _meaning(name: str, value: str) -> tuple[object, str]:
    if name not in FILTERS:
        return name, value
    try:
        return FILTERS[name], read_value(name, value, lambda _: None, None)
    except InvalidQueryError:
        return FILTERS[name], value
