"""Single use of service tokens, over threads, processes and restarts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from storage.postgres.pool import Conn
from storage.repos.jti import forget_expired_jtis, use_jti

ROOT = Path(__file__).resolve().parents[3]
FAR = 4_000_000_000
PROCESSES, THREADS = 5, 10

# Each line names a token; all threads use it at the same moment, in transactions of
# their own, and the number of those that succeeded is printed.
CHILD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg
from storage.repos.jti import use_jti

url, threads = sys.argv[1], int(sys.argv[2])
connections = [psycopg.connect(url) for _ in range(threads)]
barrier = Barrier(threads)


def use(conn, jti):
    barrier.wait()
    with conn.transaction():
        return use_jti(conn, "did:web:a.test", jti, 4_000_000_000)


with ThreadPoolExecutor(threads) as pool:
    print("ready", flush=True)
    for line in sys.stdin:
        done = pool.map(use, connections, [line.strip()] * threads)
        print(sum(done), flush=True)
"""


class Child:
    """A process that uses tokens on request."""

    def __init__(self, url: str, threads: int = THREADS) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, url, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            text=True,
        )
        assert self._process.stdout is not None
        self._answers: Iterator[str] = iter(self._process.stdout.readline, "")

    def wait(self) -> None:
        assert next(self._answers).strip() == "ready"

    def tell(self, jti: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{jti}\n")
        self._process.stdin.flush()

    def answer(self) -> int:
        return int(next(self._answers))

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(20)


def test_of_fifty_uses_in_five_processes_one_succeeds(index_db: str) -> None:
    with ExitStack() as stack:
        children = [Child(index_db) for _ in range(PROCESSES)]
        for child in children:
            stack.callback(child.close)
            child.wait()
        for number in range(12):
            for child in children:
                child.tell(f"token {number}")
            assert sum(child.answer() for child in children) == 1, number
    # Nothing depends on the memory of the ended processes.
    late = Child(index_db, threads=2)
    try:
        late.wait()
        late.tell("token 3")
        assert late.answer() == 0
        late.tell("another")
        assert late.answer() == 1
    finally:
        late.close()


def test_a_second_use_is_refused(conn: Conn) -> None:
    assert use_jti(conn, "did:web:a.test", "1", FAR)
    for _ in range(3):
        assert not use_jti(conn, "did:web:a.test", "1", FAR)
        # Not even with a later end.
        assert not use_jti(conn, "did:web:a.test", "1", FAR + 60)
    conn.commit()
    assert not use_jti(conn, "did:web:a.test", "1", FAR)


@pytest.mark.parametrize(
    ("iss", "jti"),
    [
        ("did:web:b.test", "1"),
        ("did:web:a.test", "2"),
        ("did:web:a.test", "1 "),
        ("did:web:a.test", ""),
        ("did:web:a.tes", "t\n1"),
        ("did:web:a.test#x", "1"),
    ],
)
def test_other_issuer_is_another_token(conn: Conn, iss: str, jti: str) -> None:
    assert use_jti(conn, "did:web:a.test", "1", FAR)
    assert use_jti(conn, iss, jti, FAR)


def test_only_expired_tokens_are_deleted(conn: Conn) -> None:
    for exp in (1_000, 1_001, 1_002):
        assert use_jti(conn, "did:web:a.test", str(exp), exp)
    # One that is still good at this second is kept.
    assert forget_expired_jtis(conn, 1_001.0) == 1
    assert use_jti(conn, "did:web:a.test", "1000", FAR)
    assert not use_jti(conn, "did:web:a.test", "1001", FAR)
    assert not use_jti(conn, "did:web:a.test", "1002", FAR)


def test_rolled_back_use_does_not_count(conn: Conn) -> None:
    assert use_jti(conn, "did:web:a.test", "1", FAR)
    conn.rollback()
    assert use_jti(conn, "did:web:a.test", "1", FAR)
