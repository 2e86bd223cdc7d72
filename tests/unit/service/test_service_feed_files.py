"""Python files and recipes in the commands of feeds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from recipe_world import RecipeWorld, open_world
from typer.testing import CliRunner, Result

from service.cli.app import app

FEED = """
from feeds.scripts.interface import Item

TITLE = "Herons"

def feed(request):
    for post in request.search("heron"):
        if request.viewer is None:
            yield Item(post.uri, "a heron")
    yield 7
"""


@pytest.fixture
def world(
    index_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RecipeWorld]:
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", index_db)
    (tmp_path / "feeds.d").mkdir()
    with open_world(index_db) as world:
        world.post("user1", "a heron")
        world.post("user2", "a heron that is deleted")
        world.post("user3", "a wren")
        world.drain()
        yield world


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["feed", *words])


def test_check_loads_python_files_and_names_the_line(tmp_path: Path) -> None:
    texts = {
        "good.py": FEED,
        "bad.py": "def feed(request):\n  x = (\n",
        "Odd_Name.py": FEED,
        "popular.py": FEED,
        "loops.py": "x = 1 / 0",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    result = run("check", *(str(tmp_path / name) for name in texts))
    assert result.exit_code != 0
    assert f"{tmp_path}/good.py: ok, good, Python" in result.output
    assert f"{tmp_path}/bad.py: line 2: SyntaxError: '(' was never" in result.output
    assert "Odd_Name.py: name it with lower-case letters" in result.output
    assert "popular.py: popular is a built-in feed" in result.output
    assert "loops.py: line 1: ZeroDivisionError" in result.output
    assert run("check", str(tmp_path / "none.py")).exit_code != 0


def test_python_file_is_listed_previewed_and_explained(
    world: RecipeWorld, tmp_path: Path
) -> None:
    (tmp_path / "feeds.d" / "herons.py").write_text(FEED)
    rows = [json.loads(line) for line in run("list", "--json").output.splitlines()]
    assert {"name": "herons", "title": "Herons", "about": ""} in rows
    heron, other, wren = world.posts
    page = json.loads(run("preview", "herons", "--skeleton").stdout)
    assert {item["post"] for item in page["feed"]} == {heron, other}
    path = str(tmp_path / "feeds.d" / "herons.py")
    assert "a heron" in run("preview", path).stdout
    shown = run("explain", "herons", heron).stdout
    assert "in, at rank" in shown
    assert "its reason: a heron" in shown
    shown = run("explain", "herons", wren).stdout
    assert "not in\n  the file did not return it\n  1 values left out" in shown
    world.delete(other)
    world.drain()
    assert "does not know" in run("explain", "herons", other + "x").stdout
    assert run("backtest", "herons").exit_code != 0


def test_empty_and_failing_files_say_why(world: RecipeWorld, tmp_path: Path) -> None:
    path = tmp_path / "test.py"
    path.write_text("def feed(request): return []")
    result = run("preview", str(path))
    assert "empty: the file returned no posts" in result.output
    path.write_text("def feed(request):\n    return request.none()\n")
    result = run("preview", str(path))
    assert result.exit_code != 0
    assert "line 2: AttributeError" in str(result.exception)
    shown = run("explain", str(path), world.posts[0]).stdout
    assert "not in\n  the feed test failed: line 2: AttributeError" in shown
    path.write_text("PERSONAL = True\ndef feed(request): return []")
    assert "signed-in" in run("explain", str(path), world.posts[0]).stdout
    viewed = run("explain", str(path), world.posts[0], "--viewer", "user1.test")
    assert "did not return it" in viewed.stdout
