"""The doctor's findings, and the command line's exit codes."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import psycopg
import pytest

from service import up
from service.cli import app as cli
from service.cli.check import compare_schemas
from service.monitoring.doctor import Finding, examine
from service.monitoring.snapshot import CRAWL_PULSE
from service.operator_errors import ServiceError
from service.runtime.config import Config
from service.runtime.databases import Database, sibling_database
from service.runtime.embedded import EmbeddedPostgres
from storage import migrate
from storage.heartbeats import beat
from storage.hosts.host_rows import put_host
from storage.repos.scope_rows import ScopeKind, set_scope


def find(findings: list[Finding], subject: str) -> Finding:
    return next(finding for finding in findings if finding.subject == subject)


def test_doctor_passes_a_healthy_machine(tmp_path: Path) -> None:
    config = Config.read(home=tmp_path, port_base=20_480)
    findings = examine(config)
    for subject in ("python", "home", "disk", "postgres", "valkey"):
        assert find(findings, subject).well, subject


def test_doctor_finds_a_taken_port(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finding = find(
            examine(Config.read(home=tmp_path, port_base=min(port, 65_532))),
            f"port {port}",
        )
        assert not finding.well
        assert "BIGWORLD_PORT_BASE" in finding.advice
        (tmp_path / "endpoints.json").write_text("{}")
        finding = find(
            examine(Config.read(home=tmp_path, port_base=min(port, 65_532))),
            f"port {port}",
        )
        assert finding.well


def test_doctor_finds_external_servers_that_are_down(tmp_path: Path) -> None:
    config = Config.read(
        home=tmp_path,
        database_url="postgresql://nobody:hush@127.0.0.1:1/none",
        broker_url="redis://127.0.0.1:1/0",
    )
    findings = examine(config)
    assert not find(findings, "postgres").well
    assert not find(findings, "valkey").well
    assert "hush" not in repr(findings)


def test_doctor_shows_the_alarms(tmp_path: Path, index_db: str) -> None:
    config = Config.read(home=tmp_path, database_url=index_db)
    assert find(examine(config), "alarms").well
    with psycopg.connect(index_db) as conn:
        beat(conn, CRAWL_PULSE, {})
        conn.execute("UPDATE pulse SET at = now() - interval '5 minutes'")
    finding = find(examine(config), "crawl silent: crawl")
    assert not finding.well
    assert "silent for 5 min" in finding.detail
    assert "it exited or hangs" in finding.detail
    assert "bigworld crawl" in finding.advice
    with psycopg.connect(index_db) as conn:
        beat(conn, CRAWL_PULSE, {})
    assert find(examine(config), "alarms").well


def test_doctor_finds_an_account_cap_below_the_scope(
    tmp_path: Path, index_db: str
) -> None:
    config = Config.read(home=tmp_path, database_url=index_db, account_cap=7)
    with psycopg.connect(index_db) as conn:
        put_host(conn, "a.example.com", "https://a.example.com", source="relay")
        conn.execute("UPDATE host SET accounts = 6")
        conn.commit()
        assert not [f for f in examine(config) if f.subject == "account cap"]
        conn.execute("UPDATE host SET accounts = 7")
        conn.commit()
        assert find(examine(config), "account cap").well
        set_scope(conn, ScopeKind.COLLECTION, collections=["com.example.blog.entry"])
        conn.commit()
    finding = find(examine(config), "account cap")
    assert not finding.well
    assert "7 of at most 7" in finding.detail
    assert "BIGWORLD_ACCOUNT_CAP" in finding.advice


def test_doctor_requires_a_contact_for_foreign_hosts(tmp_path: Path) -> None:
    config = Config.read(home=tmp_path, hosts=("https://pds.example.com",))
    assert not find(examine(config), "contact").well
    config = Config.read(
        home=tmp_path, hosts=("https://pds.example.com",), contact="mailto:me@x.org"
    )
    assert find(examine(config), "contact").well


def test_up_refuses_a_taken_port(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = Config.read(home=tmp_path / "home", port_base=min(port, 65_532))
        with pytest.raises(ServiceError, match=f"port {port} .*BIGWORLD_PORT_BASE"):
            up.run(config)
    assert not (tmp_path / "home").exists()


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["bigworld", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    code = stopped.value.code
    return code if isinstance(code, int) else 1


def test_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path))
    monkeypatch.setenv("BIGWORLD_PORT_BASE", "20490")
    run("doctor", "--json", monkeypatch=monkeypatch)
    assert {finding["subject"] for finding in json.loads(capsys.readouterr().out)} > {
        "python",
        "home",
    }
    monkeypatch.setenv("DATABASE_URL", "postgresql://x@127.0.0.1:1/none")
    assert run("doctor", monkeypatch=monkeypatch) == 1
    assert run("no-such-verb", monkeypatch=monkeypatch) == 2
    assert run("repo", "export", "not a did", "x.car", monkeypatch=monkeypatch) == 2
    monkeypatch.setenv("BIGWORLD_PORTBASE", "1")
    assert run("doctor", monkeypatch=monkeypatch) == 2
    assert "did you mean BIGWORLD_PORT_BASE" in capsys.readouterr().err


def test_compare_schemas_finds_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compare_schemas() == ""
    monkeypatch.setattr(migrate, "TARGETS", {"plc": ("plc.schema", "pds.tables")})
    assert "add_table" in compare_schemas()


def test_sibling_database_is_created_on_an_external_server(
    postgres_server: EmbeddedPostgres, empty_database: str
) -> None:
    assert sibling_database(empty_database, Database("index")) == empty_database
    url = sibling_database(empty_database, Database("pds", "a"))
    assert url.endswith(f"_pds_a?host={postgres_server._sockets}")
    migrate.upgrade(url, "pds")
    assert sibling_database(empty_database, Database("pds", "a")) == url
