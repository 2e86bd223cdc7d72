"""Failures of commands as one line, and the names of commands."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from network.errors import UnreachableError
from service.cli import app as cli
from service.cli.app import app
from service.cli.groups import OLD_NAMES, translate_old_name
from service.operator_errors import ServiceError
from service.runtime.failures import describe_failure

READING = (
    ["host"],
    ["host", "show", "pds.example.com"],
    ["repo"],
    ["scope"],
    ["takedown", "list"],
    ["repo", "audit"],
    ["repo", "export", "did:plc:z72i7hdynmk6r22z27h6tvur", "x.car"],
    ["repo", "resync", "did:plc:z72i7hdynmk6r22z27h6tvur"],
    ["search", "rebuild"],
    ["db", "recount"],
    ["db", "migrate"],
    ["db", "backup", "copy"],
    ["takedown", "undo", "did:plc:z72i7hdynmk6r22z27h6tvur"],
    ["host", "add", "https://pds.example.com"],
)


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_command_on_an_empty_home_creates_nothing(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("BIGWORLD_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, ServiceError), error
    assert f"{home} holds no data yet: `bigworld up`" in str(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "runs"),
    [
        ("backup x", "db backup x"),
        ("repos --state resyncing", "repo list --state resyncing"),
        ("repos alice.test --resync", "repo resync alice.test"),
        ("rebuild counts", "db recount"),
        ("rebuild search", "search rebuild"),
        ("hosts show x", "host show x"),
        ("search rebuild", "search rebuild"),
    ],
)
def test_old_command_name_runs_the_new_command(
    typed: str, runs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert translate_old_name(typed.split()) == runs.split()
    assert ("is now" in capsys.readouterr().err) is (typed != runs)


@pytest.mark.parametrize("old", OLD_NAMES)
def test_every_old_command_name_reaches_a_command(old: str) -> None:
    result = CliRunner().invoke(app, [*old.split(), "--help"])
    assert result.exit_code == 0
    assert f"Usage: bigworld {OLD_NAMES[old]}" in result.stdout


def test_group_without_a_command_runs_its_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path))
    shown = CliRunner().invoke(app, ["feed", "--json"]).output.splitlines()
    assert '"name": "latest"' in shown[0]
    assert CliRunner().invoke(app, ["feed"]).output.split()[:2] == ["name", "title"]
    for words in (
        ["feed", "latest"],
        ["search", "rebuilt"],
        ["search", "--actors", "x"],
    ):
        error = CliRunner().invoke(app, words).exception
        assert "no provider answers" in str(error)
    assert "No such command 'shwo'" in CliRunner().invoke(app, ["host", "shwo"]).output


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "/x"),
            ["/x: permission denied", "writable"],
        ),
        (OSError(errno.ENOSPC, "No space left on device"), ["no space left", "free"]),
        (OSError(errno.EADDRINUSE, "in use"), ["BIGWORLD_PORT_BASE"]),
        (psycopg.OperationalError("no server\nis there"), ["no server", "database"]),
        (psycopg.errors.DiskFull("could not write"), ["is full"]),
        (UnreachableError("plc.example.com: refused"), ["plc.example.com"]),
        (ExceptionGroup("x", [ServiceError("do this")]), ["do this"]),
    ],
)
def test_expected_failures_are_one_line(error: Exception, parts: list[str]) -> None:
    line = describe_failure(error)
    assert line is not None
    assert "\n" not in line
    for part in parts:
        assert part in line


def test_bugs_keep_their_traceback() -> None:
    assert describe_failure(KeyError("x")) is None
    assert describe_failure(ExceptionGroup("x", [KeyError(), OSError()])) is None


def test_main_prints_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path / "none"))
    monkeypatch.setattr(sys, "argv", ["bigworld", "repo", "list", "alice"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.count("\n") == 1
    assert "'alice' is neither a DID nor a handle" in told


def test_version_is_the_one_of_the_project() -> None:
    project = (Path(__file__).parents[4] / "pyproject.toml").read_text()
    told = CliRunner().invoke(app, ["--version"]).output.split()
    assert told[0] == "bigworld"
    assert f'\nversion = "{told[1]}"\n' in project
