"""Answers that are no pages: skeleton, hydrate, rules, present.

skeleton  which items, in which order: addresses only
hydrate   everything to show them, one bulk query a kind
rules     which of them this viewer may see
present   the lexicon's JSON

All four run in one read-only transaction. Answers in pages are in appview.paging.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from appview.hydration.state import State
from appview.session import RequestContext, Session

Params = dict[str, Any]
S = TypeVar("S")


class Runnable(Protocol):
    """A read method."""

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        """Return the JSON answer."""


@dataclass(frozen=True, slots=True)
class Pipeline(Generic[S]):
    """The four steps of one method; `run` is the only way through them."""

    skeleton: Callable[[Session, Params], S]
    hydrate: Callable[[State, S], None]
    rules: Callable[[State, S], S]
    present: Callable[[State, S, Params], dict[str, Any]]

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        """Return the JSON answer."""
        with context.session() as session:
            found = self.skeleton(session, params)
            context.check_client()
            state = State(session)
            self.hydrate(state, found)
            context.check_client()
            return self.present(state, self.rules(state, found), params)
