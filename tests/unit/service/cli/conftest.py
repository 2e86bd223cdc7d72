"""Fixtures of command tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.app import app

Run = Callable[..., str]


@pytest.fixture
def run(index_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command on the index.

    It returns the output, or with `code` the error.
    """
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", index_db)

    def run(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, words)
        if code:
            assert result.exception is not None, result.output
            return str(result.exception)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    return run
