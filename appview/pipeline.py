"""How every read is made: skeleton, hydrate, rules, present.

skeleton  which items, in which order: addresses only
hydrate   everything to show them, one bulk query a kind
rules     which of them this viewer may see
present   the lexicon's JSON
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from appview.hydration.state import State
from appview.session import Session

Params = dict[str, Any]
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Pipeline(Generic[S]):
    """The four steps of one method; `run` is the only way through them."""

    skeleton: Callable[[Session, Params], S]
    hydrate: Callable[[State, S], None]
    rules: Callable[[State, S], S]
    present: Callable[[State, S, Params], dict[str, Any]]

    def run(self, session: Session, params: Params) -> dict[str, Any]:
        """The JSON answer."""
        found = self.skeleton(session, params)
        state = State(session)
        self.hydrate(state, found)
        return self.present(state, self.rules(state, found), params)
