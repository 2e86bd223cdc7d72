"""One checked request of an XRPC method, as its handler gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class Auth:
    """The verified caller; `kind` is the way of its login: "service", "session"."""

    did: str
    kind: str
    claims: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One checked request.

    `params` are typed by the lexicon with defaults filled in. `input` is the JSON value
    of a JSON method, the bytes of any other (an iterator of a streamed one), and None
    without a body.
    """

    nsid: str
    params: dict[str, Any]
    input: Any
    auth: Auth | None
    headers: Headers
    request: Request
    gone: Event = field(default_factory=Event)
    """Set when the client disconnects while a thread works on the answer."""

    def is_client_gone(self) -> bool:
        """Return True if the client has disconnected."""
        return self.gone.is_set()

    @property
    def viewer(self) -> Auth:
        """Return the caller of a method that requires auth."""
        assert self.auth is not None, "the method does not require auth"
        return self.auth
