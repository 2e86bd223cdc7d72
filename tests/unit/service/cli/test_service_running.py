"""Commands beside a running `up`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.app import app
from service.cli.running import forget_running, note_running, read_beside
from service.runtime.config import Config
from service.up import _demo_config


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_read_beside_inherits_the_settings_of_up(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = _demo_config(Config.read(port_base=3_000))
    note_running(ran)
    assert (home / "running.json").stat().st_mode & 0o777 == 0o600
    config = read_beside()
    assert config == ran
    assert (config.dev_network, config.directory_url) == (True, "http://localhost:3001")
    monkeypatch.setenv("BIGWORLD_PORT_BASE", "4000")
    assert read_beside().port_base == 4_000
    assert read_beside().hosts == ran.hosts
    forget_running(ran)
    assert read_beside() == Config.read()


def test_read_beside_ignores_a_killed_up(home: Path) -> None:
    note_running(Config.read(port_base=3_000))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    noted = json.loads((home / "running.json").read_text()) | {"pid": ended.pid}
    (home / "running.json").write_text(json.dumps(noted))
    assert read_beside().port_base == 2_580


def test_search_without_a_provider_names_its_url(home: Path) -> None:
    note_running(Config.read(port_base=1))
    error = str(CliRunner().invoke(app, ["search", "x"]).exception)
    assert "no provider answers at http://localhost:1: start it" in error


def test_doctor_checks_the_ports_of_up(home: Path) -> None:
    note_running(Config.read(port_base=3_000))
    told = CliRunner().invoke(app, ["doctor", "--json"]).output
    assert "port 3000" in told
    assert "port 2580" not in told


def test_search_uses_the_port_of_a_stopped_demo(home: Path) -> None:
    state = {"now_us": 1, "done": True, "port_base": 1}
    (home / "society.json").write_text(json.dumps(state))
    error = str(CliRunner().invoke(app, ["search", "x"]).exception)
    assert "no provider answers at http://localhost:1:" in error
