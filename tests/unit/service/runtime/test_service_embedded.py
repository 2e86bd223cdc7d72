"""Embedded PostgreSQL and Valkey: start, stop, crashes and leftovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from service.operator_errors import EmbeddedServerError
from service.runtime.embedded import (
    EmbeddedPostgres,
    EmbeddedValkey,
    folders,
    privileges,
)

FAST = {"fsync": "off", "shared_buffers": "16MB"}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes user")


@pytest.fixture(scope="module")
def cluster(short_folder: Path) -> Path:
    """Return the home of a stopped cluster, shared by the tests of this module."""
    home = short_folder / "cluster"
    server = EmbeddedPostgres(home, settings=FAST)
    server.start()
    server.stop()
    return home


def one(url: str, query: str) -> object:
    with psycopg.connect(url) as conn:
        row = conn.execute(query).fetchone()
        return None if row is None else row[0]


def test_data_survive_a_stop(cluster: Path) -> None:
    with EmbeddedPostgres(cluster, settings=FAST) as server:
        server.ensure_database("kept")
        with psycopg.connect(server.url("kept")) as conn:
            conn.execute("CREATE TABLE IF NOT EXISTS t AS SELECT 1 AS n")
    with EmbeddedPostgres(cluster, settings=FAST) as server:
        assert server.ensure_database("kept") is False
        assert one(server.url("kept"), "SELECT n FROM t") == 1


def test_locale_is_the_same_everywhere(cluster: Path) -> None:
    with EmbeddedPostgres(cluster, settings=FAST) as server:
        locale = one(
            server.url(),
            "SELECT datlocprovider::text || ' ' || datlocale FROM pg_database "
            "WHERE datname = 'postgres'",
        )
        assert locale == "b C.UTF-8"
        assert one(server.url(), "SHOW timezone") == "UTC"
        assert one(server.url(), "SHOW listen_addresses") == ""


def test_second_supervisor_of_a_folder_is_refused(cluster: Path) -> None:
    with (
        EmbeddedPostgres(cluster, settings=FAST),
        pytest.raises(EmbeddedServerError, match="in use by another"),
    ):
        EmbeddedPostgres(cluster, settings=FAST).start()


def test_lock_is_free_after_a_stop(cluster: Path) -> None:
    server = EmbeddedPostgres(cluster, settings=FAST)
    for _ in range(2):
        server.start()
        assert server.alive
        server.stop()
        assert not server.alive


@pytest.mark.parametrize("stale_pid", [1, os.getpid()], ids=["init", "a test program"])
def test_pid_file_of_another_program_is_ignored(cluster: Path, stale_pid: int) -> None:
    """Ignore a pid file whose number belongs to another program after a reboot."""
    (cluster / "data" / "postmaster.pid").write_text(
        f"{stale_pid}\n{cluster / 'data'}\n1\n5432\n{cluster / 'run'}\n\n1 1\n"
    )
    (cluster / "run" / ".s.PGSQL.5432.lock").write_text(
        f"{stale_pid}\n{cluster / 'data'}\n"
    )
    with EmbeddedPostgres(cluster, settings=FAST) as server:
        assert one(server.url(), "SELECT 1") == 1


def test_killed_server_starts_again(cluster: Path) -> None:
    server = EmbeddedPostgres(cluster, settings=FAST)
    server.start()
    # An open session keeps the shared memory of the dead postmaster in use.
    conn = psycopg.connect(server.url())
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    conn.close()
    server.stop()
    with EmbeddedPostgres(cluster, settings=FAST) as again:
        assert one(again.url(), "SELECT 1") == 1


HOLD = """
import sys, time
from pathlib import Path
from service.runtime.embedded import EmbeddedPostgres, EmbeddedValkey
p = EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"})
v = EmbeddedValkey(Path(sys.argv[2]))
p.start(), v.start()
print(p.pid, v.pid, flush=True)
time.sleep(60)
"""


def test_server_dies_with_its_parent(cluster: Path, short_folder: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux signals the children of a killed parent")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, cluster, short_folder / "held"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    with holder.stdout:
        children = [psutil.Process(int(p)) for p in holder.stdout.readline().split()]
    assert len(children) == 2
    holder.kill()
    holder.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    with EmbeddedPostgres(cluster, settings=FAST) as again:
        assert one(again.url(), "SELECT 1") == 1


def test_orphaned_server_is_stopped_at_the_next_start(cluster: Path) -> None:
    first = EmbeddedPostgres(cluster, settings=FAST)
    first.start()
    orphan, first._process = first._process, None
    first.stop()  # releases the lock, as a killed supervisor does
    assert orphan is not None
    assert orphan.poll() is None
    with EmbeddedPostgres(cluster, settings=FAST) as second:
        assert one(second.url(), "SELECT 1") == 1
    assert orphan.wait(10) == 0


@needs_root
def test_without_user_namespaces_the_server_runs_as_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privileges, "user_namespaces_work", lambda: False)
    tmp_path.chmod(0o700)
    with EmbeddedPostgres(tmp_path / "postgres", settings=FAST) as server:
        assert server.pid is not None
        assert psutil.Process(server.pid).uids().real == 65534
        assert one(server.url(), "SELECT 1") == 1
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    monkeypatch.undo()
    with EmbeddedPostgres(tmp_path / "postgres", settings=FAST) as server:
        assert one(server.url(), "SELECT 1") == 1


def test_deep_folder_gets_a_short_socket(tmp_path: Path) -> None:
    home = tmp_path / ("deep-" * 16) / ("deeper-" * 8)
    with EmbeddedValkey(home) as server:
        with redis.Redis.from_url(server.url()) as client:
            assert client.ping()
        folder = server._sockets
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_socket_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("deep-" * 30)
    made = folders.socket_folder(deep, "valkey.sock", os.geteuid())
    try:
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        with pytest.raises(EmbeddedServerError, match="belongs to another user"):
            folders.socket_folder(deep, "valkey.sock", 4711)
    finally:
        made.rmdir()


def test_server_that_cannot_start_shows_its_log(cluster: Path) -> None:
    wrong = EmbeddedPostgres(cluster, settings={"shared_buffers": "many"})
    with pytest.raises(EmbeddedServerError, match="shared_buffers"):
        wrong.start()
    with EmbeddedPostgres(cluster, settings=FAST) as server:
        assert server.alive


def test_valkey_keeps_what_it_acknowledged(short_folder: Path) -> None:
    home = short_folder / "kept"
    with EmbeddedValkey(home) as server:
        with redis.Redis.from_url(server.url()) as client:
            client.lpush("jobs", *range(1000))
            time.sleep(1.2)  # the append-only file is synced each second
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
    with EmbeddedValkey(home) as server, redis.Redis.from_url(server.url()) as client:
        assert client.llen("jobs") == 1000
        assert client.config_get("maxmemory-policy") == {
            "maxmemory-policy": "noeviction"
        }
