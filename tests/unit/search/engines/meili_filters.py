"""Filter expressions of Meilisearch, for the fake server."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

Test = Callable[[dict[str, Any]], bool]
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<sign><=|>=|!=|[=<>()\[\],])"""
    r"""|(?P<word>[\w.:-]+))"""
)
_ORDER = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class FilterError(Exception):
    """A filter that the server would refuse."""


def parse_filter(text: str, filterable: dict[str, bool]) -> Test:
    """Return the test of a filter expression."""
    return _parse(text, tuple(sorted(filterable.items())))


@lru_cache(maxsize=256)
def _parse(text: str, filterable: tuple[tuple[str, bool], ...]) -> Test:
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise FilterError(f"cannot read {text[at : at + 20]!r}")
        tokens.append(match.group().strip())
        at = match.end()
    parser = _Parser(tokens, dict(filterable))
    test = parser.either()
    if parser.tokens:
        raise FilterError(f"unexpected {parser.tokens[0]!r}")
    return test


class _Parser:
    def __init__(self, tokens: list[str], filterable: dict[str, bool]) -> None:
        self.tokens = tokens
        self.filterable = filterable

    def take(self, expected: str | None = None) -> str:
        if not self.tokens:
            raise FilterError("the filter ends too early")
        token = self.tokens.pop(0)
        if expected is not None and token != expected:
            raise FilterError(f"expected {expected}, found {token}")
        return token

    def peek(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def either(self) -> Test:
        tests = [self.every()]
        while self.peek() == "OR":
            self.take()
            tests.append(self.every())
        return lambda one: any(test(one) for test in tests)

    def every(self) -> Test:
        tests = [self.negation()]
        while self.peek() == "AND":
            self.take()
            tests.append(self.negation())
        return lambda one: all(test(one) for test in tests)

    def negation(self) -> Test:
        if self.peek() == "NOT":
            self.take()
            test = self.negation()
            return lambda one: not test(one)
        if self.peek() == "(":
            self.take()
            test = self.either()
            self.take(")")
            return test
        return self.condition()

    def condition(self) -> Test:
        name, sign = self.take(), self.take()
        if name not in self.filterable:
            raise FilterError(f"Attribute `{name}` is not filterable")
        if sign == "EXISTS":
            return lambda one: name in one
        if sign == "NOT":
            self.take("EXISTS")
            return lambda one: name not in one
        if sign == "=":
            value = self.value()
            return lambda one: value in _values(one, name)
        if sign == "IN":
            return self._among(name)
        if not self.filterable[name]:
            raise FilterError(f"`{name}` has no comparisons")
        if sign == "STARTS":
            self.take("WITH")
            start = str(self.value())
            return lambda one: any(str(v).startswith(start) for v in _values(one, name))
        if sign in _ORDER:
            compare, bound = _ORDER[sign], self.value()
            return lambda one: any(
                type(v) is type(bound) and compare(v, bound) for v in _values(one, name)
            )
        raise FilterError(f"unknown operator {sign!r}")

    def _among(self, name: str) -> Test:
        self.take("[")
        values = set()
        while self.peek() != "]":
            values.add(self.value())
            if self.peek() == ",":
                self.take()
        self.take("]")
        return lambda one: any(v in values for v in _values(one, name))

    def value(self) -> Any:
        token = self.take()
        if token.startswith('"'):
            return token[1:-1]
        try:
            return float(token)
        except ValueError:
            return token


def _values(document: dict[str, Any], name: str) -> list[Any]:
    found = document.get(name, [])
    values = found if isinstance(found, list) else [found]
    # Numbers are doubles, and strings are compared without case.
    return [float(v) if isinstance(v, int) else v.lower() for v in values]
