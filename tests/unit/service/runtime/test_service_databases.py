"""Databases of a process, backup and restore."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from service.cli.db import backup, restore
from service.operator_errors import FolderInUseError, ServiceError
from service.runtime.config import Config
from service.runtime.databases import (
    INDEX,
    PDS,
    PLC,
    PRIVATE,
    database_name,
    embedded_postgres,
    is_current,
    newest_version,
    open_database,
)
from service.runtime.secrets import SecretStore, private_vault
from storage import migrate
from storage.private.mutes import Mute, save_mute
from storage.private.private_state import load_private_state


@pytest.mark.parametrize("target", [INDEX, PLC, PDS])
def test_newest_version_is_the_head(target: str) -> None:
    assert newest_version(target) == migrate.head(target)


def test_is_current(empty_database: str) -> None:
    assert not is_current(empty_database, PLC)
    migrate.upgrade(empty_database, PLC)
    assert is_current(empty_database, PLC)
    with psycopg.connect(empty_database) as conn:
        conn.execute("UPDATE alembic_version_plc SET version_num = 'older'")
    assert not is_current(empty_database, PLC)


def test_database_name() -> None:
    assert database_name(INDEX) == "bigworld"
    assert database_name(PDS, "a") == "pds_a"
    assert database_name(PLC) == "plc"


def test_external_server_comes_first(empty_database: str, tmp_path: Path) -> None:
    config = Config.read(home=tmp_path, database_url=empty_database)
    with open_database(config, PLC) as url:
        assert url == empty_database
        assert is_current(url, PLC)
    assert not (tmp_path / "postgres").exists()


def test_migrations_can_be_disabled(empty_database: str, tmp_path: Path) -> None:
    config = Config.read(home=tmp_path, database_url=empty_database, migrate=False)
    with open_database(config, PLC):
        pass
    assert not is_current(empty_database, PLC)


def test_running_server_is_used_and_left_running(tmp_path: Path) -> None:
    config = Config.read(home=tmp_path / "home")
    with embedded_postgres(config) as server:
        with open_database(config, PLC) as url, psycopg.connect(url) as conn:
            conn.execute("SELECT count(*) FROM operation")
        assert server.alive
        with pytest.raises(FolderInUseError):
            embedded_postgres(config).start()
    assert not embedded_postgres(config).attach()


def test_backup_and_restore(tmp_path: Path) -> None:
    config = Config.read(home=tmp_path / "home")
    folder = tmp_path / "backup"
    with open_database(config, PLC) as url, psycopg.connect(url) as conn:
        conn.execute(
            "INSERT INTO operation (did, value, created_ms) VALUES ('did:x', %s, 5)",
            (b"\x00kept",),
        )
    key = SecretStore(config.home).key("pds-a")

    manifest = backup(config, folder)
    assert list(manifest["databases"]) == ["plc"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "plc.dump").stat().st_mode) == 0o600
    with pytest.raises(ServiceError, match="not empty"):
        backup(config, folder)

    other = Config.read(home=tmp_path / "other")
    assert restore(other, folder) == ["plc"]
    assert SecretStore(other.home).key("pds-a") == key
    with open_database(other, PLC) as url, psycopg.connect(url) as conn:
        assert is_current(url, PLC)
        assert conn.execute("SELECT did, value FROM operation").fetchall() == [
            ("did:x", b"\x00kept")
        ]
    with pytest.raises(ServiceError, match="not empty"):
        restore(other, folder)
    with pytest.raises(ServiceError, match="no backup"):
        restore(Config.read(home=tmp_path / "third"), tmp_path)


def test_restore_needs_an_empty_database(tmp_path: Path, empty_database: str) -> None:
    config = Config.read(home=tmp_path / "home")
    with open_database(config, INDEX), open_database(config, PRIVATE) as url:
        with psycopg.connect(url) as conn:
            account = private_vault(config).account("did:web:a.test")
            save_mute(conn, account, "did:web:b.test", Mute())
        backup(config, tmp_path / "backup")
    own = Config.read(home=tmp_path / "own", database_url=empty_database)
    assert restore(own, tmp_path / "backup") == ["bigworld", "private"]
    assert is_current(empty_database, INDEX)
    with open_database(own, PRIVATE) as url, psycopg.connect(url) as conn:
        assert url == empty_database
        account = private_vault(own).account("did:web:a.test")
        held = load_private_state(conn, account)
        assert held.mute_of("did:web:b.test") == Mute()
    with pytest.raises(ServiceError, match="has tables already"):
        restore(own, tmp_path / "backup")
    other = Config.read(home=tmp_path / "other", database_url=empty_database)
    private_vault(other)
    with pytest.raises(ServiceError, match="not the secret of this backup"):
        restore(other, tmp_path / "backup")


def test_private_database_of_your_own_is_saved_and_restored_apart(
    tmp_path: Path, make_database: Callable[[str], str], empty_database: str
) -> None:
    config = Config.read(
        home=tmp_path / "home",
        database_url=empty_database,
        private_database_url=make_database("private"),
    )
    with open_database(config, INDEX), open_database(config, PRIVATE) as url:
        assert url != empty_database
        manifest = backup(config, tmp_path / "backup")
    assert set(manifest["databases"]) == {"bigworld", "private"}
    other = Config.read(home=tmp_path / "other")
    assert set(restore(other, tmp_path / "backup")) == {"bigworld", "private"}
    with open_database(other, PRIVATE) as url:
        assert is_current(url, PRIVATE)
