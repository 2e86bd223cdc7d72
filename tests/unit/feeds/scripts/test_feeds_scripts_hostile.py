"""Faulty files: each fails by itself, in bounded time and memory, with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import psutil
import pytest
from recipe_world import RecipeWorld, open_world
from script_world import HASTY, PATIENT, ScriptWorld, serve_scripts

from feeds.scripts import script_feed
from feeds.scripts.script_book import ScriptBook
from feeds.scripts.script_feed import shared_runs
from feeds.scripts.script_process import Limits, ScriptError, ScriptProcess

LOOP = "def feed(request):\n    while True: pass\n"
GOOD = "def feed(request): return ['{uri}']"
FAULTS = {
    "loops": (LOOP, "took longer than 0.5 s"),
    "yields-junk-for-ever": (
        "def feed(request):\n"
        "    class Junk:\n        def __repr__(self): 1 / 0\n"
        "    while True:\n        Junk()\n        if not request: yield Junk()\n",
        "took longer than 0.5 s",
    ),
    "sleeps": ("import time\ndef feed(r): time.sleep(9999)", "took longer than 0.5 s"),
    "eats-memory": (
        "def feed(request):\n    held = []\n"
        "    while True: held.append(bytearray(1 << 24))\n",
        "line 3: MemoryError: over 256 MB of memory",
    ),
    "syntax": ("def feed(request):\n    return [\n", "line 2: SyntaxError"),
    "nul": ("def feed(request): return []\0", "null bytes"),
    "raises": (
        "def inner(x): return 1 / x\n\ndef feed(request):\n    yield inner(0)\n",
        "line 1: ZeroDivisionError: division by zero",
    ),
    "import": ("import no_such_module\ndef feed(r): return []", "line 1: ModuleNotF"),
    "exits": ("import sys\ndef feed(request): sys.exit(3)", "SystemExit: 3"),
    "dies": ("import os\ndef feed(request): os._exit(7)", "exit code 7"),
    "is-killed": (
        "import os, signal\ndef feed(r): os.kill(os.getpid(), signal.SIGKILL)",
        "ended by SIGKILL",
    ),
    "closes-all": ("import os\ndef feed(r): os.closerange(0, 64)", "process"),
    "floods": (
        "import os\ndef feed(r):\n    for n in range(3, 64):\n"
        "        try: os.write(n, b'x' * 10_000)\n        except OSError: pass\n",
        "its reply is",
    ),
    "reads-too-much": (
        "def feed(request):\n    for n in range(99): request.search('heron', 1)\n",
        "line 2: ReadError: at most 10 calls",
    ),
    "bad-search": (
        "def feed(request): return request.search('in:x since:never')",
        "line 1: ReadError: search 'in:x since:never'",
    ),
    "odd-search": ("def feed(request): return request.search('\\0')", "ReadError"),
    "odd-error": (
        "class Odd(Exception):\n    def __str__(self): return 1 / 0\n"
        "def feed(request): raise Odd\n",
        "line 3: Odd: ",
    ),
    "deep": ("x = " + "-" * 60_000 + "1\ndef feed(r): return []", ""),
    "recursive": ("def feed(r): return feed(r)", "RecursionError"),
}


@pytest.fixture
def world(index_db: str) -> Iterator[RecipeWorld]:
    with open_world(index_db) as world:
        world.post("user1", "heron")
        world.drain()
        yield world


@pytest.fixture
def served(world: RecipeWorld, tmp_path: Path) -> Iterator[ScriptWorld]:
    with serve_scripts(world, tmp_path, HASTY) as served:
        yield served


def children() -> list[psutil.Process]:
    """Return the processes that run files."""
    own = psutil.Process().children(recursive=True)
    return [p for p in own if "runner.py" in " ".join(p.cmdline())]


def test_faulty_files_fail_by_themselves_with_a_named_error(
    served: ScriptWorld,
) -> None:
    post = served.world.posts[0]
    for name, (text, _) in FAULTS.items():
        (served.folder / f"{name}.py").write_text(text)
    served.write("good", GOOD.format(uri=post))
    for name, (_, reason) in FAULTS.items():
        status, body = served.get(name)
        assert (status, body["error"]) == (503, "FeedFailed"), name
        assert body["message"].startswith(f"the feed {name} failed: "), name
        assert reason in body["message"], name
        assert served.posts("good") == [post], name
    errors = served.book.refresh()
    assert errors.keys() == {f"{name}.py" for name in FAULTS}


def test_failed_file_rests_and_then_runs_again(
    served: ScriptWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script_feed, "_FIRST_REST_S", 9_999.0)
    monkeypatch.setattr(script_feed, "_LONGEST_REST_S", 9_999.0)
    served.write("loops", LOOP)
    started: list[object] = []

    def start(*given: Any) -> ScriptProcess:
        started.append(given)
        return ScriptProcess(*given)

    monkeypatch.setattr(script_feed, "ScriptProcess", start)
    for _ in range(5):
        assert served.get("loops")[1]["error"] == "FeedFailed"
    # The process of the load was used once, and no other one was started.
    assert started == []
    served.write("loops", GOOD.format(uri=served.world.posts[0]))
    assert served.posts("loops") == served.world.posts


def test_other_feeds_are_served_while_a_file_loops(
    world: RecipeWorld, tmp_path: Path
) -> None:
    post = world.posts[0]
    with serve_scripts(world, tmp_path, Limits(60, 3, 256 << 20)) as served:
        served.write("good", GOOD.format(uri=post))
        served.write("loops", LOOP)
        with ThreadPoolExecutor(12) as threads:
            bad = [threads.submit(served.get, "loops") for _ in range(10)]
            good = threads.submit(served.posts, "good")
            popular = threads.submit(served.get, "popular")
            assert good.result() == [post]
            assert popular.result()[0] == 200
            answers = [future.result() for future in bad]
    assert {status for status, _ in answers} == {503}
    assert {body["error"] for _, body in answers} == {"FeedFailed"}


def test_file_is_run_once_for_readers_at_one_moment(
    world: RecipeWorld, tmp_path: Path
) -> None:
    post = world.posts[0]
    text = "runs = 0\ndef feed(request):\n    global runs\n    runs += 1\n"
    text += "    from feeds.scripts.interface import Item\n"
    text += f"    yield Item({post!r}, f'run {{runs}}')\n"
    with serve_scripts(world, tmp_path) as served:
        served.write("counted", text)
        body = served.get("counted", limit=1)[1]
        for _ in range(3):
            again = served.get("counted", limit=1)[1]
            # A slow machine may begin another moment.
            runs = int(again["feed"][0]["feedContext"].split()[1])
            assert runs < 4
    assert body["feed"][0]["feedContext"] == "run 1"


def test_no_process_is_left(served: ScriptWorld) -> None:
    served.write("good", GOOD.format(uri=served.world.posts[0]))
    served.write(
        "spawns",
        "import subprocess\ndef feed(r):\n"
        "    subprocess.Popen(['sleep', '9999'])\n    while True: pass\n",
    )
    assert served.posts("good")
    assert served.get("spawns")[0] == 503
    assert len(children()) == 1
    served.book.close()
    assert children() == []
    names = [p.name() for p in psutil.Process().children(recursive=True)]
    assert "sleep" not in names


def test_idle_processes_end_and_start_again(
    served: ScriptWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.write("good", GOOD.format(uri=served.world.posts[0]))
    assert served.posts("good")
    served.book.scripts["good"].feed.rest(0.0)
    assert children() == []
    moments = served.book.scripts["good"].feed._shared.moments
    monkeypatch.setattr(moments, "freeze", lambda feed, now: now)
    assert served.posts("good") == served.world.posts
    assert len(children()) == 1


def test_folder_that_does_not_exist_has_no_feeds(tmp_path: Path) -> None:
    book = ScriptBook(tmp_path / "none", shared_runs(PATIENT))
    assert book.refresh() == {}
    assert dict(book.scripts) == {}


def test_number_of_files_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feeds.scripts.script_book.MAX_SCRIPTS", 1)
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text("def feed(request): return []")
    book = ScriptBook(tmp_path, shared_runs(PATIENT))
    try:
        assert book.refresh() == {"b.py": "at most 1 Python files are served"}
        assert [*book.scripts] == ["a"]
    finally:
        book.close()


def test_child_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    process = ScriptProcess(
        tmp_path / "x.py", "def feed(request): return []", PATIENT, DEVNULL
    )
    [child] = children()
    # The parent's end of the socket closes with the parent.
    process._connection.close()
    child.wait(60)
    process.close()
    with pytest.raises(ScriptError):
        process.run(None, "2026-12-01T00:00:00+00:00", lambda _: {})


def test_looping_child_ends_without_a_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "cpu_s", 1)
    process = ScriptProcess(tmp_path / "x.py", LOOP, Limits(60, 60), DEVNULL)
    with pytest.raises(ScriptError, match="ended by SIGXCPU"):
        process.run(None, "2026-12-01T00:00:00+00:00", lambda _: {})
