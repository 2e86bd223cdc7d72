"""Small durable jobs: claimed by lease, done or retried.

A job is its kind and its key. Queueing a job that exists changes only its time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from storage.postgres.pool import Conn

# `payload` holds `doubt`, which becomes `claimed` with the claim, so that it survives a
# crash; `again`: queued again since the claim; and for each host that named the key
# `h<id>`, and `r<id>` and `s<id>` with the newest revision and status that it sent.
_DOUBTED: Final = "payload ?| '{doubt,claimed}'"
_NAMED_BY: Final = "jsonb_object_keys(payload) AS k WHERE k ~ '^h[0-9]+$'"
_HOST_OF_REPO: Final = """(SELECT host FROM actor JOIN repo ON repo.actor = actor.id
    WHERE actor.did = job.key)"""


class Naming(NamedTuple):
    """A host's mention of an account: newest revision and status, empty for none.

    `in_scope` if the account writes into the scope; `at` is Unix time of the database.
    """

    rev: str = ""
    in_scope: bool = False
    status: str = ""
    at: float = 0.0


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
    payload: Mapping[str, Any] = field(default_factory=dict)

    @property
    def named_by(self) -> dict[int, Naming]:
        """Return the hosts that named the key."""
        named: dict[int, Naming] = {}
        for name, in_scope in self.payload.items():
            if name[0] == "h":
                host = name[1:]
                status, at = self.payload.get(f"s{host}", ("", 0.0))
                rev = self.payload.get(f"r{host}", "")
                named[int(host)] = Naming(rev, in_scope, status, at)
        return named


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
    payload: dict[str, Any] = {"doubt": True} if doubt else {}
    _put(conn, kind, dict.fromkeys(keys, payload), wait)


def put_named_jobs(
    conn: Conn,
    kind: str,
    named: Mapping[str, Mapping[int, Naming]],
    *,
    wait: float = 0.0,
    doubt: bool = False,
) -> None:
    """Queue jobs as `put_jobs` does, for keys that hosts named. Does not commit."""
    more: dict[str, Any] = {"doubt": True} if doubt else {}
    payloads: dict[str, dict[str, Any]] = {}
    for key, by in named.items():
        payload = payloads[key] = dict(more)
        for host, naming in by.items():
            payload[f"h{host}"] = naming.in_scope
            if naming.rev:
                payload[f"r{host}"] = naming.rev
            if naming.status:
                payload[f"s{host}"] = naming.status, naming.at
    _put(conn, kind, payloads, wait)


def _put(
    conn: Conn, kind: str, payloads: Mapping[str, Mapping[str, Any]], wait: float
) -> None:
    if not payloads:
        return
    keys = sorted(payloads)
    conn.execute(
        """
        INSERT INTO job (kind, key, not_before, payload)
        SELECT %s, key, now() + make_interval(secs => %s), payload
        FROM unnest(%s::text[], %s::jsonb[]) AS t (key, payload)
        ON CONFLICT (kind, key) DO UPDATE
        SET not_before = least(job.not_before, excluded.not_before),
            payload = job.payload || excluded.payload || '{"again": true}'
        """,
        (kind, wait, keys, [Jsonb(payloads[key]) for key in keys]),
    )


def claim_jobs(
    conn: Conn, kind: str, *, limit: int, lease_s: float, besides: Sequence[int] = ()
) -> list[ClaimedJob]:
    """Lease up to `limit` due jobs of a kind. Commit at once.

    Jobs that only hosts in `besides` hold or named are left out.
    """
    with conn.cursor(row_factory=class_row(ClaimedJob)) as cursor:
        cursor.execute(
            f"""
            WITH due AS (
                SELECT id, {_DOUBTED} AS doubted, coalesce({_HOST_OF_REPO}, 0) AS host
                FROM job
                WHERE kind = %(kind)s AND not_before <= now()
                  AND (lease_until IS NULL OR lease_until <= now())
                  AND (%(all)s OR CASE WHEN EXISTS (SELECT FROM {_NAMED_BY})
                    THEN EXISTS (SELECT FROM {_NAMED_BY}
                        AND substr(k, 2)::int <> ALL(%(besides)s))
                    ELSE coalesce({_HOST_OF_REPO}, 0) <> ALL(%(besides)s) END)
                ORDER BY not_before LIMIT %(limit)s FOR UPDATE SKIP LOCKED
            )
            UPDATE job SET lease_until = now() + make_interval(secs => %(lease)s),
                payload = payload - '{{doubt,again}}'::text[]
                    || CASE WHEN doubted THEN '{{"claimed": true}}'::jsonb
                        ELSE '{{}}' END
            FROM due WHERE job.id = due.id
            RETURNING job.id, key, tries, doubted, due.host, payload
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
