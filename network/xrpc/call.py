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
    """Who is asking. `kind` names how it was shown, e.g. "service", "session"."""

    did: str
    kind: str
    claims: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One checked request.

    `params` are typed by the lexicon with defaults filled in. `input` is the JSON
    value of a JSON method, the bytes of any other, an async iterator of bytes if the
    method was added with `stream=True`, and None without a body.
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
        """Return True if nobody waits for the answer any more."""
        return self.gone.is_set()

    @property
    def viewer(self) -> Auth:
        """The asker of a method that requires one."""
        assert self.auth is not None, "the method does not require auth"
        return self.auth
