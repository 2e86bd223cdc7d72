"""Accounts named by DID or handle on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from service.cli import account_names
from service.cli.account_names import find_account, find_accounts
from service.operator_errors import ConfigError, ServiceError
from service.runtime.config import Config
from storage.postgres.pool import Conn

DID = "did:plc:z72i7hdynmk6r22z27h6tvur"
OTHER = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


def test_find_accounts_asks_the_index_then_the_network(
    index_db: str, conn: Conn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn.execute("INSERT INTO actor (did, handle) VALUES (%s, 'a.example.com')", (DID,))
    conn.commit()
    asked: list[str] = []

    async def resolve(_: Config, handles: Sequence[str]) -> dict[str, str]:
        asked.extend(handles)
        return dict.fromkeys(handles, OTHER)

    monkeypatch.setattr(account_names, "_resolve", resolve)
    config = Config(home=tmp_path, database_url=index_db)  # type: ignore[arg-type]
    names = ["@A.Example.com", "b.example.com", OTHER, f"at://{DID}"]
    assert find_accounts(config, names) == [DID, OTHER, OTHER, DID]
    assert asked == ["b.example.com"]
    # Without an index, too.
    assert find_account(Config(home=tmp_path), "a.example.com") == OTHER
    assert list(tmp_path.iterdir()) == []


def test_find_account_refuses_invalid_and_unknown_names(tmp_path: Path) -> None:
    # A reserved top-level domain is never resolved.
    with pytest.raises(ServiceError, match=r"no account has the handle a\.invalid"):
        find_account(Config(home=tmp_path), "a.invalid")
    for text in ("alice", "did:plc:a b", "", "https://example.com/x"):
        with pytest.raises(ConfigError, match="neither a DID nor a handle"):
            find_account(Config(home=tmp_path), text)
