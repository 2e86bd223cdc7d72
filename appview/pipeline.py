"""Methods, and the shapes of those without pages.

A read method runs four steps in one read-only transaction:

skeleton  addresses of the items, in order
hydrate   everything to show them, one bulk query a kind
rules     the items that this viewer may see
present   the lexicon's JSON

Answers in pages are in appview.paging.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from appview.app import AppView
from appview.hydration.state import State
from appview.session import RequestContext, Session, context_of
from network.xrpc.server import AuthMode, Call, Reply, XrpcError, XrpcServer

Params = dict[str, Any]
Handler = Callable[[Call], Any]
S = TypeVar("S")


class Method(Protocol):
    """A method as the server registers it."""

    @property
    def auth(self) -> AuthMode:
        """Return the need for a signed-in viewer."""

    def handler(self, app: AppView, server: XrpcServer) -> Handler:
        """Return the function that answers calls."""


class BlockingMethod(Method):
    """A method that runs in a thread of the server."""

    @abstractmethod
    def run(self, context: RequestContext, params: Params) -> dict[str, Any] | None:
        """Return the JSON answer."""

    def handler(self, app: AppView, server: XrpcServer) -> Handler:
        return lambda call: self.answer(app, call)

    def answer(self, app: AppView, call: Call) -> Reply:
        """Run the method for a call. Errors carry the headers of an answer."""
        context = context_of(app, call)
        params = call.params if call.input is None else call.input
        try:
            body = self.run(context, params)
        except XrpcError as error:
            error.headers.update(context.reply_headers())
            raise
        return Reply(body, headers=context.reply_headers())


@dataclass(frozen=True, slots=True)
class Pipeline(BlockingMethod, Generic[S]):
    """A read method in four steps, each of which sees the result of the one before."""

    skeleton: Callable[[Session, Params], S]
    hydrate: Callable[[State, S], None]
    rules: Callable[[State, S], S]
    present: Callable[[State, S, Params], dict[str, Any]]
    auth: AuthMode = "optional"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        with context.session() as session:
            found = self.skeleton(session, params)
            context.check_client()
            state = State(session)
            self.hydrate(state, found)
            context.check_client()
            return self.present(state, self.rules(state, found), params)


@dataclass(frozen=True, slots=True)
class SessionRead(BlockingMethod):
    """A method that reads without hydration or rules."""

    read: Callable[[Session, Params], dict[str, Any]]
    auth: AuthMode = "optional"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        with context.session() as session:
            return self.read(session, params)
