"""Imports of whole repos: any block order, little memory, killed and failing ones."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from repo_world import DID, KEY, NOTE, Repo, check_stored, note

from crawler.repos.spill import BlockSpill
from pds.exceptions import InvalidRequestError
from pds.repo import repo_import
from pds.repo.repo_heads import RepoHead
from pds.repo.repo_import import ImportSource, RepoImporter, list_missing_blobs
from pds.server import lifecycle
from protocol.data.cbor import encode
from protocol.data.cid import Cid, cid_for, cid_from_text, raw_cid_for
from protocol.identity.keys import PrivateKey
from protocol.mst import build_nodes
from protocol.repo.car import car_block, car_header
from protocol.repo.commit import sign_commit
from protocol.syntax import Did, TidClock

OLD_KEY = PrivateKey.generate("p256")
KEYS = frozenset({KEY.public.did_key, OLD_KEY.public.did_key})
IMPORTER = "doomed importer"


def repo_car(records: dict[str, bytes], seed: int | None = None) -> bytes:
    """Return the CAR of a repo, its blocks shuffled if a seed is given."""
    items = sorted((path.encode(), cid_for(raw)) for path, raw in records.items())
    nodes = {node.cid: node.raw for node in build_nodes(items)}
    root = list(nodes)[-1]
    rev = TidClock(3, lambda: 1_600_000_000_000_000).next()
    signed = sign_commit(Did(DID), root, rev, OLD_KEY)
    blocks = {cid_for(signed): signed}
    blocks |= dict(reversed(nodes.items()))
    blocks |= {cid_for(raw): raw for raw in records.values()}
    listed = list(blocks.items())
    if seed is not None:
        random.Random(seed).shuffle(listed)
    return car_header(cid_for(signed)) + b"".join(
        car_block(c, raw) for c, raw in listed
    )


def many(count: int, size: int = 20) -> dict[str, bytes]:
    """Return records, a third of which share their blocks."""
    return {
        f"{NOTE}/k{number}": encode(
            {"$type": NOTE, "text": str(number % (count * 2 // 3)) * size}
        )
        for number in range(count)
    }


def cut(data: bytes, size: int = 5_000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def run(repo: Repo, car: bytes, importer: RepoImporter | None = None) -> RepoHead:
    importer = importer or make_importer(repo)
    with repo.pool.connection() as conn:
        source = ImportSource(cut(car), KEYS)
        return importer.run(conn, repo.id, source, datetime.now(UTC))


def make_importer(repo: Repo, *, on_disk: bool = False) -> RepoImporter:
    spill = BlockSpill if on_disk else None
    return RepoImporter(repo.clock, lambda conn, account: KEY, spill)


def cids(records: dict[str, bytes]) -> dict[str, bytes]:
    return {path: cid_for(raw) for path, raw in records.items()}


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_repo_is_imported_in_any_order(
    repo: Repo, seed: int | None, on_disk: bool
) -> None:
    repo.apply(note("gone", "before the import"), note("k1", "replaced"))
    records = many(3_000)
    importer = make_importer(repo, on_disk=on_disk)
    head = run(repo, repo_car(records, seed), importer)
    assert head == repo.head()
    check_stored(repo, cids(records))
    assert run(repo, repo_car(records, 7), importer) == head
    # The imported repo is an ordinary one.
    repo.apply(note("after", "the import"))
    check_stored(repo, cids(records) | {f"{NOTE}/after": cid_of("the import")})


def cid_of(text: str) -> bytes:
    cid = note("x", text).cid
    assert cid is not None
    return cid


def test_empty_repo_is_imported(repo: Repo) -> None:
    repo.apply(note("gone", "text"))
    run(repo, repo_car({}))
    check_stored(repo, {})


def test_spill_in_memory_is_bounded(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repo_import, "MAX_HELD_BYTES", 100_000)
    records = many(3_000, 60)
    car = repo_car(records, 5)
    head = repo.head()
    with pytest.raises(InvalidRequestError, match="too many blocks"):
        run(repo, car, make_importer(repo))
    assert repo.head() == head
    run(repo, car, make_importer(repo, on_disk=True))
    check_stored(repo, cids(records))


def test_import_has_one_event_of_an_active_account(repo: Repo) -> None:
    before = len(repo.frames())
    head = run(repo, repo_car(many(10)))
    run(repo, repo_car(many(10)))
    ((_, frame),) = repo.frames()[before:]
    assert (frame.t, frame.body["rev"]) == ("#sync", head.rev)


def test_blobs_of_both_forms_are_missing_at_first(repo: Repo) -> None:
    first, second = raw_cid_for(b"one"), raw_cid_for(b"two")
    blob = {"$type": "blob", "ref": Cid(first), "mimeType": "a/b", "size": 3}
    old = {"cid": "bafkreigyia5vqnnpapjc6p5k23ukzc47kadxhbeuzfvjq52bftz7k2d56a"}
    strong = {"uri": "at://x", "cid": old["cid"]}
    records = {
        f"{NOTE}/a": encode({"$type": NOTE, "many": [{"deep": blob}], "like": strong}),
        f"{NOTE}/b": encode(
            {"$type": NOTE, "blob": blob, "legacy": old | {"mimeType": "a/b"}}
        ),
        f"{NOTE}/c": encode({"$type": NOTE, "other": blob | {"ref": Cid(second)}}),
    }
    run(repo, repo_car(records))
    legacy = cid_from_text(old["cid"])
    wanted = {first: f"{NOTE}/a", second: f"{NOTE}/c", legacy: f"{NOTE}/b"}
    with repo.pool.connection() as conn:
        pages: list[Any] = []
        after = b""
        while page := list_missing_blobs(conn, repo.id, after, 1):
            pages += page
            after = page[-1].cid
    assert {item.cid: item.path for item in pages} == wanted


@pytest.mark.parametrize(
    "step", ["insert_blocks", "copy_rows", "build_nodes", "move_head", "append"]
)
def test_failure_at_any_step_changes_nothing(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    head = repo.apply(note("kept", "text"))
    frames = len(repo.frames())

    def fail(*args: Any, **more: Any) -> None:
        real(*args, **more)
        raise RuntimeError(step)

    real = getattr(repo_import, step)
    monkeypatch.setattr(repo_import, step, fail)
    with pytest.raises(RuntimeError, match=step):
        run(repo, repo_car(many(50)))
    monkeypatch.undo()
    assert (repo.head(), len(repo.frames())) == (head, frames)
    check_stored(repo, {f"{NOTE}/kept": cid_of("text")})
    run(repo, repo_car(many(50)))
    check_stored(repo, cids(many(50)))


def test_activation_during_an_import_has_its_event(repo: Repo) -> None:
    """Activate while the import waits for the lock of the head."""
    with repo.pool.connection() as conn:
        lifecycle.deactivate(conn, repo.id, datetime.now(UTC))
    with ThreadPoolExecutor(1) as threads, repo.pool.connection() as conn:
        lifecycle.activate(conn, repo.id, datetime.now(UTC))
        importing = threads.submit(run, repo, repo_car(many(10)))
        wait_for_lock(repo)
        conn.commit()
        head = importing.result()
    _, last = repo.frames()[-1]
    assert (last.t, last.body["rev"]) == ("#sync", head.rev)


def wait_for_lock(repo: Repo) -> None:
    with repo.pool.connection() as conn:
        conn.autocommit = True
        while not conn.execute(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        ).fetchone():
            time.sleep(0.01)
        conn.autocommit = False


@pytest.mark.parametrize("pieces", [0, 1, 4, 10])
def test_killed_import_changes_nothing(repo: Repo, pieces: int) -> None:
    """Kill an import after some pieces; the next one succeeds."""
    url = repo.pool.conninfo
    assert isinstance(url, str)
    records = many(3_000)
    car = repo_car(records)
    head = repo.apply(note("kept", "text"))
    child = os.fork()
    if child == 0:
        import_until_killed(url, repo.id, car, pieces)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with psycopg.connect(url, autocommit=True) as reader:
        while reader.execute(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = %s", [IMPORTER]
        ).fetchone():
            time.sleep(0.01)
    assert repo.head() == head
    check_stored(repo, {f"{NOTE}/kept": cid_of("text")})
    run(repo, car)
    check_stored(repo, cids(records))


def import_until_killed(url: str, account_id: int, car: bytes, pieces: int) -> None:
    """Import in a child process, which kills itself in the middle."""

    def doomed() -> Iterator[bytes]:
        for number, piece in enumerate(cut(car, 30_000)):
            if number == pieces:
                os.kill(os.getpid(), signal.SIGKILL)
            yield piece

    try:
        clock = TidClock(5, lambda: time.time_ns() // 1000)
        with psycopg.connect(url, application_name=IMPORTER) as conn:
            importer = RepoImporter(clock, lambda conn, account: KEY)
            source = ImportSource(doomed(), KEYS)
            importer.run(conn, account_id, source, datetime.now(UTC))
    finally:
        os._exit(1)
