"""Small durable jobs: claimed by lease, done or retried.

A job is its kind and its key. Queueing it again changes nothing, so callers in doubt
queue it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg.rows import class_row

from storage.postgres.pool import Conn

_DOUBT: Final = '{"doubt": true}'
# Keys of `payload`. `doubt` becomes `claimed` with the claim, so that it survives a
# crash; `again`: queued again since the claim.
_DOUBTED: Final = "payload ?| '{doubt,claimed}'"


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A leased job; `tries` counts its failures.

    `doubted`: cached data is too old to answer it. `host` has the repo of the account
    that is the key; 0 for none.
    """

    id: int
    key: str
    tries: int
    doubted: bool
    host: int


def put_jobs(
    conn: Conn,
    kind: str,
    keys: Iterable[str],
    *,
    wait: float = 0.0,
    doubt: bool = False,
) -> None:
    """Queue a job for each key, due in `wait` seconds or sooner if queued already.

    With `doubt` they are `doubted`. A job that is running becomes due again after its
    lease. Does not commit.
    """
    wanted = sorted(set(keys))
    if not wanted:
        return
    conn.execute(
        """
        INSERT INTO job (kind, key, not_before, payload)
        SELECT %s, key, now() + make_interval(secs => %s), %s
        FROM unnest(%s::text[]) AS t (key)
        ON CONFLICT (kind, key) DO UPDATE
        SET not_before = least(job.not_before, excluded.not_before),
            payload = job.payload || excluded.payload || '{"again": true}'
        """,
        (kind, wait, _DOUBT if doubt else "{}", wanted),
    )


def claim_jobs(
    conn: Conn,
    kind: str,
    *,
    limit: int,
    lease_s: float,
    besides: Sequence[int] = (),
) -> list[ClaimedJob]:
    """Lease up to `limit` due jobs of a kind. Commit at once.

    Jobs for accounts of the hosts `besides` are left out.
    """
    with conn.cursor(row_factory=class_row(ClaimedJob)) as cursor:
        cursor.execute(
            f"""
            WITH due AS (
                SELECT id, {_DOUBTED} AS doubted, coalesce((
                    SELECT host FROM actor JOIN repo ON repo.actor = actor.id
                    WHERE actor.did = job.key), 0) AS host
                FROM job
                WHERE kind = %(kind)s AND not_before <= now()
                  AND (lease_until IS NULL OR lease_until <= now())
                  AND (%(all)s OR coalesce((
                    SELECT host FROM actor JOIN repo ON repo.actor = actor.id
                    WHERE actor.did = job.key), 0) <> ALL(%(besides)s))
                ORDER BY not_before LIMIT %(limit)s FOR UPDATE SKIP LOCKED
            )
            UPDATE job SET lease_until = now() + make_interval(secs => %(lease)s),
                payload = CASE WHEN doubted THEN '{{"claimed": true}}'::jsonb
                    ELSE '{{}}' END
            FROM due WHERE job.id = due.id
            RETURNING job.id, key, tries, doubted, due.host
            """,
            {
                "kind": kind,
                "limit": limit,
                "lease": lease_s,
                "all": not besides,
                "besides": list(besides),
            },
        )
        return cursor.fetchall()


def renew_jobs(conn: Conn, ids: Sequence[int], *, lease_s: float) -> None:
    """Keep claimed jobs for another `lease_s` seconds. Does not commit."""
    conn.execute(
        "UPDATE job SET lease_until = now() + make_interval(secs => %s)"
        " WHERE id = ANY(%s) AND lease_until IS NOT NULL",
        (lease_s, list(ids)),
    )


def give_back_jobs(conn: Conn, ids: Sequence[int]) -> None:
    """Return claimed jobs unchanged. Does not commit."""
    conn.execute("UPDATE job SET lease_until = NULL WHERE id = ANY(%s)", (list(ids),))


def finish_jobs(conn: Conn, ids: Sequence[int], *, again_in: float = 0.0) -> None:
    """Delete done jobs; one that was queued again meanwhile is due in `again_in`."""
    conn.execute(
        "DELETE FROM job WHERE id = ANY(%s) AND NOT payload ? 'again'", (list(ids),)
    )
    conn.execute(
        "UPDATE job SET lease_until = NULL, tries = 0, payload = payload - 'claimed',"
        " not_before = now() + make_interval(secs => %s) WHERE id = ANY(%s)",
        (again_in, list(ids)),
    )


def retry_job(conn: Conn, job: int, error: str, *, wait: float) -> None:
    """Return a failed job, to be tried again in `wait` seconds."""
    conn.execute(
        """
        UPDATE job SET lease_until = NULL, tries = tries + 1, error = %s,
            not_before = now() + make_interval(secs => %s)
        WHERE id = %s
        """,
        (error[:500].replace("\0", ""), wait, job),
    )


def postpone_job(conn: Conn, job: int, *, wait: float) -> None:
    """Return a job that cannot be done yet, due in `wait` seconds; this is no
    failure."""
    conn.execute(
        "UPDATE job SET lease_until = NULL,"
        " not_before = now() + make_interval(secs => %s) WHERE id = %s",
        (wait, job),
    )


def count_due(conn: Conn, kind: str, *, most: int, since: float) -> int:
    """Count jobs of a kind that became due in the last `since` seconds, up to
    `most`."""
    row = conn.execute(
        "SELECT count(*) FROM (SELECT FROM job WHERE kind = %s AND not_before <= now()"
        " AND not_before > now() - make_interval(secs => %s) LIMIT %s) due",
        (kind, since, most),
    ).fetchone()
    assert row is not None
    return int(row[0])


def count_jobs(conn: Conn) -> dict[str, int]:
    """Return kind -> number of waiting and running jobs."""
    rows = conn.execute("SELECT kind, count(*) FROM job GROUP BY kind")
    return dict(rows.fetchall())
