"""Progress of the index towards its scope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from storage.postgres.pool import Conn
from storage.repos.scope_rows import load_scope

_LATELY_S: Final = 600.0
# The first repos come in a burst; their rate means nothing.
_BEGUN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class ScopeProgress:
    """Numbers of accounts of the scope.

    `wanted` is None for the whole network. `synchronized` hold all that is kept of
    them; `partial` of these hold chosen collections only. `lately` were fetched in the
    last ten minutes, the first of them `lately_s` seconds ago. `outside` are to be
    removed.
    """

    wanted: int | None
    held: int
    synchronized: int
    gone: int
    lately: int
    outside: int
    partial: int = 0
    lately_s: float = _LATELY_S

    @property
    def total(self) -> int:
        """Return the known number of accounts that will be indexed."""
        return self.held if self.wanted is None else max(self.wanted, self.held)

    @property
    def done(self) -> int:
        """Return the accounts whose repo is stored or cannot be fetched."""
        return self.synchronized + self.gone

    @property
    def seconds_left(self) -> float | None:
        """Estimate the time left from the recent rate; None without progress."""
        left = max(0, self.total - self.done)
        if left and not self.lately:
            return None
        span = min(_LATELY_S, max(_BEGUN_S, self.lately_s))
        return left * span / self.lately if left else 0.0


def load_progress(conn: Conn) -> ScopeProgress:
    """Return the progress. Counts every repo: call it rarely."""
    whole = load_scope(conn).whole
    row = conn.execute(
        """
        WITH known AS (
            SELECT repo.state, repo.synchronized_at, actor.upstream_status,
                repo.selection IS NOT NULL AS partial,
                repo.state = 'synchronized' AND repo.selection IS NOT DISTINCT FROM
                    (SELECT selection FROM scope) AS done,
                %s OR s.id IS NOT NULL AS inside
            FROM repo JOIN actor ON actor.id = repo.actor
            LEFT JOIN scope_account s ON s.did = actor.did
        )
        SELECT (SELECT count(*) FROM scope_account),
            count(*) FILTER (WHERE inside),
            count(*) FILTER (WHERE inside AND done),
            count(*) FILTER (WHERE inside AND state <> 'synchronized'
                AND upstream_status IN
                    ('deleted', 'takendown', 'suspended', 'deactivated')),
            count(*) FILTER (WHERE inside
                AND synchronized_at > now() - interval '10 min'),
            count(*) FILTER (WHERE NOT inside),
            count(*) FILTER (WHERE inside AND done AND partial),
            coalesce(extract(epoch FROM now() - min(synchronized_at) FILTER (
                WHERE inside AND synchronized_at > now() - interval '10 min'
            ))::float8, %s)
        FROM known
        """,
        (whole, _LATELY_S),
    ).fetchone()
    assert row is not None
    wanted, *counts = row
    return ScopeProgress(None if whole else wanted, *counts)
