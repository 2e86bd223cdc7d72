"""Answers in pages: fetch, hydrate and apply rules until the page is full.

Hidden items are replaced by the next ones of the source, so clients get full pages. A
page without a cursor is the last. Only a list whose items stay hidden for MAX_SECONDS
has an empty page before its end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from appview.hydration.state import State
from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext, Session
from network.xrpc.cursor import open_cursor, seal_cursor
from network.xrpc.server import AuthMode

MAX_ROUNDS: Final = 12
"""Rounds after which a page that holds something is sent."""
MAX_SECONDS: Final = 3.0
"""Seconds after which a page is sent even if it is empty; its cursor continues."""
DEFAULT_LIMIT: Final = 25
"""Items of a page of a method without a limit."""
MAX_FETCH: Final = 400
"""Items fetched in one round."""
_FEWEST_FETCHED: Final = 8
"""Items fetched in a further round beyond those that are expected to fill the page."""
_UNBOUND: Final = frozenset({"cursor", "limit", "includePins", "cid", "actor", "uri"})

T = TypeVar("T", bound=Hashable)
Keyset = list[Any]


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """An item of a source. The next page may begin after its `keyset`."""

    item: T
    keyset: Keyset


Fetch = Callable[[Keyset | None, int], Sequence[Entry[T]]]
"""`fetch(after, limit)`: entries after a keyset, fewer than `limit` at the end."""


@dataclass(frozen=True, slots=True)
class Source(Generic[T]):
    """The origin of a list's items.

    Cursors are bound to `subject`, the plain values that name the list. `query_text`
    is the client's name for it. `fetch` may put fields of the answer into `notes`.
    """

    fetch: Fetch[T]
    subject: Sequence[Any] = ()
    query_text: str = ""
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items of a list, with the subject of their source."""

    items: list[T]
    subject: Sequence[Any] = ()
    query_text: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Steps(Generic[T]):
    """The steps over the items of a source. `rules` returns the items to show."""

    hydrate: Callable[[State, Page[T]], None]
    rules: Callable[[State, Page[T]], list[T]]
    present: Callable[[State, Page[T], Params], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class RowPages(BlockingMethod, Generic[T]):
    """A list from SQL: everything happens in one read-only transaction."""

    source: Callable[[Session, Params], Source[T]]
    steps: Steps[T]
    has_cursor: bool = True
    auth: AuthMode = "optional"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        with context.session() as session:
            filling = _Filling(
                self.steps, context, params, self.source(session, params)
            )
            while not filling.is_done:
                filling.take(session, filling.fetch())
            return filling.answer(self.has_cursor)


@dataclass(frozen=True, slots=True)
class SearchPages(BlockingMethod, Generic[T]):
    """A list from elsewhere: no connection of the index is held while it is fetched."""

    source: Callable[[RequestContext, Params], Source[T]]
    steps: Steps[T]
    has_cursor: bool = True
    auth: AuthMode = "optional"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        filling = _Filling(self.steps, context, params, self.source(context, params))
        while True:
            entries = filling.fetch()
            with context.session() as session:
                filling.take(session, entries)
                if filling.is_done:
                    return filling.answer(self.has_cursor)


class Cursors:
    """Cursors of one method, bound to its feed, sort, filters and subject."""

    def __init__(
        self, context: RequestContext, params: Params, subject: Sequence[Any] = ()
    ) -> None:
        bound = {k: v for k, v in params.items() if k not in _UNBOUND}
        self._scope = json.dumps([context.nsid, bound, [*subject]], sort_keys=True)
        self._secret = context.app.cursor_secret
        self._given: str | None = params.get("cursor")

    def open(self) -> Keyset | None:
        """Return the keyset in the request's cursor. Raises XrpcError."""
        if self._given is None:
            return None
        return open_cursor(self._secret, self._given, scope=self._scope)

    def seal(self, after: Keyset | None) -> dict[str, str]:
        """Return `{"cursor": …}` to merge into the answer; empty at the end."""
        if after is None:
            return {}
        return {"cursor": seal_cursor(self._secret, after, scope=self._scope)}


class _Filling(Generic[T]):
    """A page in progress."""

    def __init__(
        self,
        steps: Steps[T],
        context: RequestContext,
        params: Params,
        source: Source[T],
    ) -> None:
        self.is_done = False
        self._steps = steps
        self._context = context
        self._params = params
        self._source = source
        self._cursors = Cursors(context, params, source.subject)
        self._after = self._cursors.open()
        self._limit: int = params.get("limit", DEFAULT_LIMIT)
        # One more than a page, to see the end.
        self._wanted: int = self._limit + 1
        self._rounds = 0
        self._read = 0
        self._deadline = monotonic() + MAX_SECONDS
        self._state: State | None = None
        self._shown: dict[T, Keyset] = {}
        self._next: Keyset | None = None

    def fetch(self) -> Sequence[Entry[T]]:
        """Return the next entries of the source."""
        self._context.check_client()
        return self._source.fetch(self._after, self._wanted)

    def take(self, session: Session, entries: Sequence[Entry[T]]) -> None:
        """Load entries and keep those that are shown, each once."""
        self._context.check_client()
        if self._state is None:
            self._state = State(session)
        self._state.session = session
        page = self._page([entry.item for entry in entries])
        self._steps.hydrate(self._state, page)
        kept = {*self._steps.rules(self._state, page)}
        before = len(self._shown)
        for entry in entries:
            if entry.item in kept:
                self._shown.setdefault(entry.item, entry.keyset)
        self._rounds += 1
        self._read += len(entries)
        self._settle(entries, len(self._shown) - before)

    def _settle(self, entries: Sequence[Entry[T]], gain: int) -> None:
        assert self._state is not None
        if len(self._shown) > self._limit:
            self._next = [*self._shown.values()][self._limit - 1]
            self.is_done = True
        elif len(entries) < self._wanted:
            self.is_done = True
        elif len(self._shown) == self._limit or self._is_spent():
            self._next = entries[-1].keyset
            self.is_done = True
        else:
            self._after = entries[-1].keyset
            self._wanted = min(self._next_fetch(gain), MAX_FETCH)
            if self._state.allowance.is_spent:
                self._state = None

    def _next_fetch(self, gain: int) -> int:
        """Return the number of items that fill the page if as many are hidden again.

        A round without a gain doubles it.
        """
        if not gain:
            return 2 * self._wanted
        missing = self._limit + 1 - len(self._shown)
        return min(
            2 * self._wanted,
            _FEWEST_FETCHED + ceil(missing * self._read / len(self._shown)),
        )

    def _is_spent(self) -> bool:
        assert self._state is not None
        if monotonic() > self._deadline:
            return True
        # A page that holds something may end early: its cursor continues from there.
        return bool(self._shown) and (
            self._rounds >= MAX_ROUNDS or self._state.allowance.is_spent
        )

    def _page(self, items: list[T]) -> Page[T]:
        source = self._source
        return Page(items, source.subject, source.query_text, source.notes)

    def answer(self, has_cursor: bool) -> dict[str, Any]:
        """Return the JSON of the page."""
        assert self._state is not None
        page = self._page([*self._shown][: self._limit])
        return {
            **self._steps.present(self._state, page, self._params),
            **(self._cursors.seal(self._next) if has_cursor else {}),
        }
