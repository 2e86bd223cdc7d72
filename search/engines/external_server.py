"""The server of an engine outside Postgres, as the common part sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from search.engines.contract import EngineUnavailableError


class IndexMissingError(EngineUnavailableError):
    """An index that the state names does not exist at the server."""


class Server(Protocol):
    """A client of the server of an engine."""

    def close(self) -> None:
        """Close the connections."""

    def version(self) -> str:
        """Return the version. Raises ServerError if it is too old."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a generation; `newest` is the time of a record."""

    records: int
    actors: int
    newest: int | None
    detail: str = ""
