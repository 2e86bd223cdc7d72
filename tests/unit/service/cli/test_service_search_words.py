from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import search


@pytest.mark.parametrize(
    ("words", "q"),
    [
        (["cats -dogs"], "cats -dogs"),
        (["-cats"], "-cats"),
        (["-dogs cats", "--limit", "3"], "-dogs cats"),
        (["cats", "from:alice.test", "--limit", "3"], "cats from:alice.test"),
        (["cats", "-lang:ja"], "cats -lang:ja"),
        (["query", "cats"], "cats"),
    ],
)
def test_search_passes_its_words_through(
    words: list[str], q: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def query_provider(_: Any, nsid: str, params: Any) -> Any:
        asked.append(params["q"])
        return {"posts": []}

    monkeypatch.setattr(search, "read_config", lambda: None)
    monkeypatch.setattr(search, "query_provider", query_provider)
    result = CliRunner().invoke(search.app, words)
    assert result.exit_code == 0, result.output
    assert asked == [q]
