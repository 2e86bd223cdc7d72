"""The scope of the settings and of the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import scope as cli
from service.cli.app import app
from service.cli.processes.crawl import apply_scope
from service.operator_errors import ConfigError
from service.runtime.config import Config
from storage.postgres.pool import Conn
from storage.repos.scope_rows import ScopeKind, load_scope, set_scope

A, B = "did:plc:" + "a" * 24, "did:plc:" + "b" * 24
BLOG = "com.example.blog.entry"


def config(tmp_path: Path, **settings: Any) -> Config:
    return Config.read(home=tmp_path, dev_network=True, **settings)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, "network"),
        ({"dids": (A,)}, "dids"),
        ({"dids": (A,), "scope": "follows"}, "follows"),
        ({"scope": "collection", "collections": (BLOG,)}, "collection"),
        ({"dids": (A,), "scope": "network"}, "network"),
        ({"keep": (BLOG,)}, "network"),
    ],
)
def test_apply_scope_sets_the_scope_of_the_settings(
    conn: Conn, tmp_path: Path, settings: dict[str, Any], kind: str
) -> None:
    assert apply_scope(conn, config(tmp_path, **settings))
    found = load_scope(conn)
    assert found.kind == kind
    assert found.seeds == ((A,) if kind in ("dids", "follows") else ())
    assert found.collections == settings.get("collections", ())
    assert found.keep == settings.get("keep", ())


def test_apply_scope_keeps_a_command_until_the_settings_change(
    conn: Conn, tmp_path: Path
) -> None:
    apply_scope(conn, config(tmp_path, dids=(A,)))
    set_scope(conn, ScopeKind.DIDS, seeds=[B])
    assert not apply_scope(conn, config(tmp_path, dids=(A,)))
    assert load_scope(conn).seeds == (B,)
    assert apply_scope(conn, config(tmp_path, dids=(A, B)))
    assert load_scope(conn).seeds == (A, B)


@pytest.mark.parametrize(
    "settings",
    [
        {"scope": "dids"},
        {"scope": "follows"},
        {"dids": (A,), "scope": "follows", "keep": (BLOG,)},
        {"scope": "collection", "collections": (BLOG,), "keep": ("a.b.c",)},
        {"scope": "collection"},
        {"collections": (BLOG,)},
        {"scope": "everything"},
    ],
)
def test_config_refuses_a_contradictory_scope(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        config(tmp_path, **settings)


def test_parse_scope_of_the_command_line(tmp_path: Path) -> None:
    here = config(tmp_path)
    assert cli.parse(here, ScopeKind.DIDS, [A, B]).seeds == (A, B)
    assert cli.parse(here, ScopeKind.COLLECTION, [BLOG]).collections == (BLOG,)
    assert cli.parse(here, ScopeKind.NETWORK, []).whole
    for kind, names in (
        (ScopeKind.NETWORK, [A]),
        (ScopeKind.DIDS, []),
        (ScopeKind.FOLLOWS, ["no handle"]),
        (ScopeKind.COLLECTION, ["posts"]),
    ):
        with pytest.raises(ConfigError):
            cli.parse(here, kind, names)


def test_scope_commands(
    index_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path))
    monkeypatch.setenv("BIGWORLD_DATABASE_URL", index_db)

    def call(*arguments: str, **more: Any) -> str:
        result = CliRunner().invoke(app, ["scope", *arguments], **more)
        assert result.exception is None or more, result.output
        return result.output

    assert call().startswith("scope: network")
    assert "accounts: 2" in call("estimate", "dids", A, B)
    shown = json.loads(call("estimate", "dids", A, B, "--json"))
    assert shown["counted"]["accounts"] == 2
    assert call("set", "dids", A, input="n\n").endswith("Aborted!\n")
    assert call().startswith("scope: network")
    assert call("set", "dids", A, "--yes").startswith("scope set to dids")
    assert "BIGWORLD_HOSTS to ask" in call("estimate", "network")
    kept = call("estimate", "dids", A, "--keep", BLOG)
    assert kept.endswith(f"only {BLOG} of each repo is kept\n")
    shown = json.loads(call("--json"))
    assert (shown["scope"], shown["seeds"], shown["total"]) == ("dids", [A], 1)
