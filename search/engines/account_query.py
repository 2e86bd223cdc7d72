"""A search of accounts as engines outside Postgres read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from search.engines.encoding import encode_token, encode_value
from search.query.nodes import Kind
from search.text.tokens import query_tokens

EXACT: Final = 2
FOLLOWED: Final = 1
OTHER: Final = 0
_MAX_TOKENS: Final = 16
_MAX_FOLLOWS: Final = 5_000


@dataclass(frozen=True, slots=True)
class AccountQuery:
    """Accounts whose `field` holds every token, the last one perhaps begun.

    A keyset is (rank, followers, actor): the exact handle, followed ones, others.
    """

    field: str
    handle: str
    """The text as an encoded handle."""
    tokens: tuple[str, ...]
    limit: int
    after: list[Any] | None
    follows: tuple[int, ...]

    @property
    def ranks(self) -> list[int]:
        """Return the ranks that are left, best first."""
        wanted = (EXACT, FOLLOWED, OTHER) if self.follows else (EXACT, OTHER)
        return [r for r in wanted if self.after is None or r <= self.after[0]]


def read_account_query(
    field: str,
    text: str,
    limit: int,
    after: list[Any] | None,
    follows: Sequence[int],
) -> AccountQuery | None:
    """Return the query of a typed text; None if nothing can match."""
    wanted = text.replace("\0", " ").strip().removeprefix("@").lower()
    tokens = tuple(
        encode_token(token)
        for clause in query_tokens(wanted)[:_MAX_TOKENS]
        for token in clause.tokens
    )[:_MAX_TOKENS]
    if not tokens or limit < 1:
        return None
    handle = encode_value(Kind.AUTHOR, wanted)
    some = tuple(int(actor) for actor in follows[:_MAX_FOLLOWS])
    return AccountQuery(field, handle, tokens, limit, after, some)
