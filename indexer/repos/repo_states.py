"""States of the repos of a batch, locked while it decides and writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from storage.postgres.arrays import bytes_array, int_array, text_array
from storage.postgres.pool import Conn
from storage.repos.selections import load_selections, settle_wanted
from storage.states import REPO_DESYNCHRONIZED, REPO_SYNCHRONIZED, STATUS_ACTIVE


@dataclass(slots=True)
class RepoState:
    """A row of `repo`, as the transaction will leave it."""

    actor: int
    state: str
    rev: str | None
    data: bytes | None
    status: str
    """The upstream status of the account."""
    upstream_rev: str | None = None
    selection: int | None = None
    """The kept selection (storage.repos.selections); of an empty repo, its next."""
    commit: bytes | None = None
    error: str | None = None
    changed: bool = False
    keeps: frozenset[str] | None = None
    """The collections of the selection; None for all."""

    @property
    def active(self) -> bool:
        """Return True if the upstream says that the account may be shown."""
        return self.status == STATUS_ACTIVE

    @property
    def doubted(self) -> bool:
        """Return True if an event during the fetch may not be covered by it.

        For an event with a revision, `upstream_rev` tells.
        """
        return self.state == REPO_DESYNCHRONIZED and self.upstream_rev is None

    def advance(self, rev: str, data: bytes, commit: bytes) -> None:
        self.state = REPO_SYNCHRONIZED
        self.rev = rev
        self.data = data
        self.commit = commit
        self.error = None
        self.changed = True

    def desynchronize(self, error: str) -> None:
        self.state = REPO_DESYNCHRONIZED
        self.error = error
        self.changed = True

    def note_upstream(self, rev: str) -> None:
        """Note that the upstream has at least this revision."""
        if self.upstream_rev is None or self.upstream_rev < rev:
            self.upstream_rev = rev
            self.changed = True


def lock_repos(
    conn: Conn, hosts: Mapping[int, int | None], begun: Iterable[int]
) -> dict[int, RepoState]:
    """Lock the repos of these actors, in the order of their ids.

    `hosts` maps each actor to the host of its event; actors of `begun` without a repo
    get a desynchronized one.
    """
    found = _lock(conn, hosts)
    missing = sorted(set(begun) - found.keys())
    if missing:
        conn.execute(
            "INSERT INTO repo (actor, host, hidden) "
            "SELECT id, host, upstream_status <> 'active' "
            "FROM unnest(%s::int4[], %s::int4[]) AS t (id, host) JOIN actor USING (id) "
            "ORDER BY id ON CONFLICT DO NOTHING",
            (missing, [hosts[actor] for actor in missing]),
        )
        found |= _lock(conn, missing)
    if any(repo.rev is None for repo in found.values()):
        wanted = settle_wanted(conn)
        for repo in found.values():
            if repo.rev is None:
                repo.selection = wanted
    partial = [repo for repo in found.values() if repo.selection is not None]
    choose_selections(conn, [(repo, repo.selection) for repo in partial])
    return found


def _lock(conn: Conn, actors: Iterable[int]) -> dict[int, RepoState]:
    wanted = int_array(actors)
    conn.execute(
        "SELECT FROM repo WHERE actor = ANY(%s::int4[]) ORDER BY actor FOR UPDATE",
        (wanted,),
    )
    # A separate statement: one that waits for the lock would read an older account.
    rows = conn.execute(
        """
        SELECT r.actor, r.state, r.rev, r.data, a.upstream_status, r.upstream_rev,
            r.selection
        FROM repo r JOIN actor a ON a.id = r.actor WHERE r.actor = ANY(%s::int4[])
        """,
        (wanted,),
        binary=True,
    )
    return {row[0]: RepoState(*row) for row in rows}


def choose_selections(
    conn: Conn, chosen: Iterable[tuple[RepoState, int | None]]
) -> None:
    """Set the selections of repos, with their collections."""
    pairs = list(chosen)
    numbers = {number for _, number in pairs if number is not None}
    known = load_selections(conn, numbers) if numbers else {}
    for repo, number in pairs:
        repo.selection = number
        repo.keeps = None if number is None else known[number].collections


def save_repos(conn: Conn, repos: Iterable[RepoState]) -> None:
    """Write the changed states back, in one statement."""
    changed = [repo for repo in repos if repo.changed]
    if not changed:
        return
    conn.execute(
        """
        UPDATE repo r SET state = d.state, rev = d.rev, data = d.data,
            commit = coalesce(d.commit, r.commit), upstream_rev = d.upstream_rev,
            error = CASE WHEN d.state = 'synchronized' THEN NULL
                ELSE coalesce(d.error, r.error) END, selection = d.selection,
            tries = CASE WHEN d.state = r.state THEN r.tries ELSE 0 END,
            next_try = CASE WHEN d.state = r.state THEN r.next_try ELSE now() END,
            synchronized_at = CASE
                WHEN d.state = 'synchronized' AND r.state <> 'synchronized' THEN now()
                ELSE r.synchronized_at END
        FROM unnest(
            %s::int4[], %s::text[], %s::text[], %s::bytea[], %s::bytea[], %s::text[],
            %s::text[], %s::int4[]
        ) AS d (actor, state, rev, data, commit, upstream_rev, error, selection)
        WHERE r.actor = d.actor
        """,
        (
            int_array(repo.actor for repo in changed),
            text_array(repo.state for repo in changed),
            text_array(repo.rev for repo in changed),
            bytes_array(repo.data for repo in changed),
            bytes_array(repo.commit for repo in changed),
            text_array(repo.upstream_rev for repo in changed),
            text_array(repo.error for repo in changed),
            [repo.selection for repo in changed],
        ),
    )
