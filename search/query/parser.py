"""The parser of the search language."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final

from protocol.syntax import is_handle
from search.query.nodes import (
    EVERYTHING,
    Filter,
    Kind,
    Node,
    Not,
    Query,
    Within,
    Words,
    all_of,
    any_of,
)
from search.query.operators import (
    ACCOUNT_KINDS,
    FILTERS,
    LIKES,
    OPERATORS,
    PLACES,
    TIMES,
    InvalidQueryError,
    ResolveHandle,
    parse_moment,
    read_likes,
    read_place,
    read_value,
    resolve_account,
)
from search.text.tags import normalize_tag
from search.text.tokens import Clause, query_tokens
from search.text.tokens import phrase as join_phrase

MAX_QUERY_BYTES: Final = 1_024
"""Longer query strings are refused: they cost too much."""
MAX_PARTS: Final = 32
MAX_DEPTH: Final = 8
_EITHER: Final = frozenset({Kind.AUTHOR, Kind.LANG})
CHARACTERS: Final = str.maketrans({**dict.fromkeys("“”„‟＂", '"'), "\0": " "})
"""Quotes that keyboards put in the place of the straight one, and NUL."""
# query = group { OR group }
# group = part { part }
# part  = [-] ( word | "phrase" | #tag | @handle | operator:value | ( query ) )
PART: Final = re.compile(
    r"""\s*(?:
        (?P<or>OR|\|)(?=[\s(]|$)
      | (?P<neg>-)?(?:
            (?P<open>\()
          | (?P<op>[A-Za-z][A-Za-z_-]*)[:：](?P<gap>[ \t]*)
            (?:"(?P<quoted>[^"]*)"?|(?P<value>\S+))
          | "(?P<phrase>[^"]*)"?
          | (?P<bare>\S+)
        )
    )""",
    re.VERBOSE,
)


def parse_query(
    text: str,
    *,
    resolve_handle: ResolveHandle,
    viewer: str | None = None,
    base: Query | None = None,
) -> Query:
    """Parse a query text; `base` holds conditions from elsewhere.

    `resolve_handle` returns the DID of a handle or None. Raises InvalidQueryError,
    whose message quotes the part.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidQueryError("the query is not valid Unicode") from None
    if size > MAX_QUERY_BYTES:
        raise InvalidQueryError(f"the query is over {MAX_QUERY_BYTES} bytes")
    parser = _Parser(
        text.translate(CHARACTERS), resolve_handle, viewer, base or Query()
    )
    return parser.parse()


@dataclass(slots=True)
class _Group:
    """A parenthesis under way: its finished alternatives, and the present one."""

    negated: bool = False
    alternatives: list[Node] = field(default_factory=list)
    items: list[Node] = field(default_factory=list)

    def close(self) -> Node:
        """Return the tree of the group; alternatives without a part are left out."""
        self.turn()
        if not self.alternatives:
            return EVERYTHING
        node = any_of(*self.alternatives)
        return Not(node) if self.negated else node

    def turn(self) -> None:
        """End the present alternative."""
        if self.items:
            self.alternatives.append(join(self.items))
            self.items = []


def join(items: list[Node]) -> Node:
    """Join the parts of a group; of several authors or languages one is enough."""
    either: dict[Kind, list[Node]] = {}
    others: list[Node] = []
    for item in items:
        if isinstance(item, Filter) and item.kind in _EITHER:
            either.setdefault(item.kind, []).append(item)
        else:
            others.append(item)
    return all_of(*others, *(any_of(*same) for same in either.values()))


def to_node(clause: Clause) -> Node:
    """Return the words of a clause, or its other spellings."""
    words = Words(clause.tokens, clause.prefix)
    return any_of(words, *(Words((variant,)) for variant in clause.variants))


class _Parser:
    def __init__(
        self,
        text: str,
        resolve_handle: ResolveHandle,
        viewer: str | None,
        base: Query,
    ) -> None:
        self._text = text
        self._resolve_handle = resolve_handle
        self._viewer = viewer
        self._query = base
        self._stack = [_Group()]
        self._parts = 0
        self._bound: list[str] = []
        self._has_or = False

    def parse(self) -> Query:
        at = 0
        while match := PART.match(self._text, at):
            at = self._read(match)
        while len(self._stack) > 1:
            self._close()
        where = all_of(self._query.where, self._stack[0].close())
        if self._has_or and self._bound:
            raise InvalidQueryError(
                f"{self._bound[0]} holds for the whole query and cannot stand beside OR"
            )
        return replace(self._query, where=where)

    def _read(self, match: re.Match[str]) -> int:
        """Read one part; return the place of the next."""
        if match["or"]:
            self._has_or = self._has_or or len(self._stack) == 1
            self._stack[-1].turn()
            return match.end()
        if match["open"]:
            if len(self._stack) > MAX_DEPTH:
                raise InvalidQueryError(f"more than {MAX_DEPTH} parentheses in another")
            self._stack.append(_Group(negated=match["neg"] is not None))
            return match.end()
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidQueryError(f"more than {MAX_PARTS} words and phrases")
        name = "value" if match["value"] is not None else "bare"
        end = match.end()
        if (word := match[name]) is not None and len(self._stack) > 1:
            # A parenthesis closes at the end of a word: `(cats OR dogs)`.
            kept = word.rstrip(")")
            closing = min(len(word) - len(kept), len(self._stack) - 1)
            end -= closing
            self._take(match, word[: len(word) - closing])
            for _ in range(closing):
                self._close()
            return match.end()
        self._take(match, word or "")
        return end

    def _close(self) -> None:
        node = self._stack.pop().close()
        if node != EVERYTHING:
            self._stack[-1].items.append(node)

    def _take(self, match: re.Match[str], word: str) -> None:
        negated = match["neg"] is not None
        if match["phrase"] is not None:
            self._add_words(match["phrase"], negated, phrase=True)
        elif match["op"] is None:
            self._add_bare(word, negated)
        elif match["op"].lower() not in OPERATORS:
            # `https://…`, `12:30` and the like are words.
            whole = match.group().strip().removeprefix("-" if negated else "")
            self._add_words(_cut(whole, match, word), negated)
        else:
            value = match["quoted"] if match["quoted"] is not None else word
            self._add_operator(match["op"].lower(), value, negated, match["gap"])

    def _add_bare(self, word: str, negated: bool) -> None:
        if len(word) > 1 and word[0] in "#＃" and (tag := normalize_tag(word)):
            self._add(Filter(Kind.TAG, tag), negated)
        elif word.startswith("@") and is_handle(word[1:]):
            did = resolve_account(word, self._resolve_handle, self._viewer)
            self._add(Filter(Kind.MENTION, did), negated)
        else:
            self._add_words(word, negated)

    def _add_words(self, text: str, negated: bool, *, phrase: bool = False) -> None:
        clauses = query_tokens(text)
        if not clauses:
            return
        if phrase and (whole := join_phrase(text)):
            self._add(to_node(whole), negated)
        else:
            self._add(all_of(*map(to_node, clauses)), negated)

    def _add_operator(self, name: str, value: str, negated: bool, gap: str) -> None:
        shown = f"{'-' if negated else ''}{name}:{value}"
        if not value:
            raise InvalidQueryError(f"{shown} has no value")
        if name in TIMES:
            self._add_time(name, value, negated, shown)
        elif name in LIKES:
            self._add_likes(value, negated, shown)
        elif name == PLACES:
            place, owner = read_place(value, self._viewer)
            self._bind(shown)
            within = (*self._query.within, Within(place, owner, negated))
            self._query = replace(self._query, within=within)
        else:
            try:
                found = read_value(name, value, self._resolve_handle, self._viewer)
            except InvalidQueryError:
                if gap and FILTERS[name] in ACCOUNT_KINDS:
                    # "a letter to: everyone" holds words only.
                    return self._add_words(f"{name} {value}", negated)
                raise
            self._add(Filter(FILTERS[name], found), negated)

    def _add_time(self, name: str, value: str, negated: bool, shown: str) -> None:
        self._bind(shown)
        moment = parse_moment(value)
        query = self._query
        # Not since a moment is until it.
        if (name == "since") != negated:
            since = moment if query.since is None else max(moment, query.since)
            self._query = replace(query, since=since)
        else:
            until = moment if query.until is None else min(moment, query.until)
            self._query = replace(query, until=until)

    def _add_likes(self, value: str, negated: bool, shown: str) -> None:
        if negated:
            raise InvalidQueryError(f"{shown} has no meaning; leave out the minus")
        self._bind(shown)
        likes = max(self._query.min_likes, read_likes(value))
        self._query = replace(self._query, min_likes=likes)

    def _bind(self, shown: str) -> None:
        """Note a part that holds for the whole query."""
        if len(self._stack) > 1:
            raise InvalidQueryError(f"{shown} cannot stand inside parentheses")
        self._bound.append(shown)

    def _add(self, node: Node, negated: bool) -> None:
        self._stack[-1].items.append(Not(node) if negated else node)


def _cut(whole: str, match: re.Match[str], word: str) -> str:
    """Return the text of a part without the parentheses that it closes."""
    value = match["value"]
    return whole if value is None else whole.removesuffix(value[len(word) :])
