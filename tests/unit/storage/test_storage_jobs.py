"""Jobs in any order of queueing, working and crashing: none is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage import jobs
from storage.postgres.pool import Conn

KIND = "identity"
ROOT = Path(__file__).parents[3]


@dataclass
class Expected:
    """Expected state of a job. `seen`: the worker knows that it is doubted."""

    doubt: bool
    claimed: bool = False
    seen: bool = False
    again: bool = False


def put(conn: Conn, model: dict[str, Expected], key: str, doubt: bool) -> None:
    jobs.put_jobs(conn, KIND, [key], doubt=doubt, wait=-1)
    job = model.get(key)
    if job is None:
        model[key] = Expected(doubt)
    else:
        job.doubt, job.again = job.doubt or doubt, job.claimed


def claim(conn: Conn, model: dict[str, Expected]) -> list[jobs.ClaimedJob]:
    claimed = jobs.claim_jobs(conn, KIND, limit=99, lease_s=3_600)
    assert {job.key for job in claimed} == {
        key for key, job in model.items() if not job.claimed
    }
    for job in claimed:
        known = model[job.key]
        assert job.doubted == known.doubt, job.key
        model[job.key] = Expected(False, claimed=True, seen=known.doubt)
    return claimed


def end(conn: Conn, model: dict[str, Expected], job: jobs.ClaimedJob, how: str) -> None:
    known = model[job.key]
    if how == "finish":
        jobs.finish_jobs(conn, [job.id], again_in=-1)
        if not known.again:
            del model[job.key]
            return
    else:
        known.doubt = known.doubt or known.seen
        if how == "retry":
            jobs.retry_job(conn, job.id, "away", wait=-1)
        elif how == "postpone":
            jobs.postpone_job(conn, job.id, wait=-1)
        elif how == "give back":
            jobs.give_back_jobs(conn, [job.id])
        else:
            # Its worker crashed; the lease runs out.
            conn.execute("UPDATE job SET lease_until = now() WHERE id = %s", (job.id,))
    known.claimed = known.again = False


@pytest.mark.parametrize("seed", range(4))
def test_jobs_keep_doubts_in_any_order(conn: Conn, seed: int) -> None:
    draw = random.Random(seed)
    model: dict[str, Expected] = {}
    held: list[jobs.ClaimedJob] = []
    for _ in range(300):
        if draw.random() < 0.5:
            put(conn, model, draw.choice("abcde"), draw.random() < 0.4)
        elif draw.random() < 0.5 or not held:
            held += claim(conn, model)
        else:
            job = held.pop(draw.randrange(len(held)))
            ways = ["finish", "retry", "postpone", "give back", "die"]
            end(conn, model, job, draw.choice(ways))
    assert jobs.count_jobs(conn).get(KIND, 0) == len(model)


WORKER = """
import asyncio, sys
from types import SimpleNamespace
from crawler.database import Database
from crawler.identities.identity_refresh import IdentityRefresh
from crawler.settings import CrawlSettings
from storage.postgres.pool import open_pool
with open_pool(sys.argv[1], max=2) as pool:
    nothing = SimpleNamespace(resolver=None)
    work = IdentityRefresh(CrawlSettings(), Database(pool), nothing, nothing)
    asyncio.run(work.run(asyncio.Event()))
"""


def test_doubt_survives_crash_of_worker(conn: Conn, index_db: str) -> None:
    jobs.put_jobs(conn, KIND, ["did:plc:a"], doubt=True)
    jobs.put_jobs(conn, KIND, ["did:plc:b"])
    conn.commit()
    dead = subprocess.run(
        [sys.executable, "-c", WORKER, index_db],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CRASH_AT": "identity.claimed"},
        check=False,
        timeout=60,
    )
    assert dead.returncode == -9
    assert jobs.claim_jobs(conn, KIND, limit=9, lease_s=60) == []
    conn.execute("UPDATE job SET lease_until = now()")
    left = jobs.claim_jobs(conn, KIND, limit=9, lease_s=60)
    assert {job.key: job.doubted for job in left} == {
        "did:plc:a": True,
        "did:plc:b": False,
    }
