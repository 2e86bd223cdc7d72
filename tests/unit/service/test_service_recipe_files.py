"""The folder of recipes: feeds follow its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from feeds.served_feeds import ServedFeeds
from service.cli.app import app
from service.recipe_files import RecipeFiles
from storage.postgres.pool import Pool
from storage.private.private_store import PrivateStore

DID = "did:web:provider.example.com"
TEXT = 'name = "{}"\ntitle = "{}"\n[[source]]\neverything = true\n'


@pytest.fixture
def files(tmp_path: Path, pool: Pool) -> RecipeFiles:
    return RecipeFiles(tmp_path, pool, PrivateStore(pool), DID)


def titles(files: RecipeFiles) -> dict[str, str]:
    """Return the titles of the recipes that a new process serves."""
    feeds = ServedFeeds().current(files.private, DID).own
    return {n: f.algorithm.display_name for n, f in feeds.items() if f.recipe}


def test_feeds_follow_the_files_of_the_folder(files: RecipeFiles) -> None:
    first, second = files.folder / "first.toml", files.folder / "second.toml"
    first.write_text(TEXT.format("one", "One"))
    second.write_text(TEXT.format("two", "Two"))
    (files.folder / "notes.txt").write_text("no recipe")
    assert files.read() == {}
    assert titles(files) == {"one": "One", "two": "Two"}
    first.write_text(TEXT.format("one", "Uno"))
    second.unlink()
    assert files.read() == {}
    assert titles(files) == {"one": "Uno"}
    first.write_text(TEXT.format("eins", "Eins"))
    assert files.read() == {}
    assert titles(files) == {"eins": "Eins"}


def test_a_faulty_file_keeps_the_feed_as_it_was(files: RecipeFiles) -> None:
    path = files.folder / "one.toml"
    path.write_text(TEXT.format("one", "One"))
    files.read()
    for text, reason in (
        (TEXT.format("one", ""), "line 2: title: the text is empty"),
        (TEXT.format("popular", "P"), "built-in"),
        ("\xff", "valid UTF-8"),
        (TEXT.format("one", "x") + "[filter]\nauthors = 'no.example'", "no.example"),
        ("#" * 70_000, "over"),
    ):
        path.write_text(text, encoding="latin-1")
        assert reason in files.read()["one.toml"]
        assert titles(files) == {"one": "One"}


def test_a_folder_that_does_not_exist_has_no_feeds(files: RecipeFiles) -> None:
    missing = RecipeFiles(files.folder / "none", files.pool, files.private, DID)
    assert missing.read() == {}


def test_feed_check_names_file_line_and_reason(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(TEXT.format("one", "One"))
    bad.write_text(TEXT.format("one", "One") + "colour = 1\n")
    result = CliRunner().invoke(app, ["feed", "check", str(good), str(bad)])
    assert result.exit_code != 0
    assert f"{good}: ok, one, sources: 1" in result.output
    assert f"{bad}: line 5: source 1, colour: this key is not known" in result.output
