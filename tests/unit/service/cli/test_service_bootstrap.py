"""The bootstrap script at the root, without downloads."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script as a module whose root is an empty clone."""
    loader = SourceFileLoader("bigworld_script", str(ROOT / "bigworld"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    (tmp_path / "requirements-dev.lock").write_text("a==1 --hash=sha256:00\n")
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    monkeypatch.setattr(module, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(module, "PYTHON", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.setattr(module, "LOCK", str(tmp_path / "requirements-dev.lock"))
    monkeypatch.setattr(module, "LOG", str(tmp_path / ".venv" / "install.log"))
    monkeypatch.setattr(module, "MARKER", str(tmp_path / ".venv" / "installed-lock"))
    return module


def test_missing_venv_module_names_the_package(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(subprocess, "call", lambda *_, **__: 1)
    with pytest.raises(SystemExit) as stopped:
        script.make_venv(sys.executable)
    assert stopped.value.code == 2
    assert "\n    apt install python3-venv\n" in capsys.readouterr().err


def test_old_python_is_refused(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "MIN_VERSION", (9, 0))
    with pytest.raises(SystemExit) as stopped:
        script.find_python()
    assert stopped.value.code == 2
    assert "3.11 or newer" in capsys.readouterr().err


def test_newer_python_on_the_path_is_used(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 0))
    monkeypatch.setattr(script, "CANDIDATES", ("no-such-python", sys.executable))
    assert script.find_python() == sys.executable
    assert script.version_of("no-such-python") == (0, 0)


def test_bootstrap_installs_once(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for step in ("make_venv", "install", "link_packages"):
        monkeypatch.setattr(script, step, lambda *_, step=step: done.append(step))
    (tmp_path / ".venv").mkdir()
    script.bootstrap()
    script.bootstrap()
    assert done == ["make_venv", "install", "link_packages"]
    digest = hashlib.sha256(Path(script.LOCK).read_bytes()).hexdigest()
    assert Path(script.MARKER).read_text().startswith(digest)
    Path(script.LOCK).write_text("b==2 --hash=sha256:11\n")
    script.bootstrap()
    assert len(done) == 6


def test_uv_is_installed_by_its_hashes(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = (ROOT / "requirements-dev.lock").read_text()
    Path(script.LOCK).write_text(lock)
    (tmp_path / ".venv").mkdir()
    calls: list[list[str]] = []

    def call(command: list[str], **_: object) -> int:
        calls.append(command)
        return 0

    monkeypatch.setattr(subprocess, "call", call)
    assert script.install_uv()
    wanted = Path(calls[0][-1]).read_text()
    assert wanted.startswith("uv==")
    assert wanted.count("--hash=sha256:") > 5
    assert wanted.count("==") == 1
    assert "--require-hashes" in calls[0]


def test_pip_installs_if_uv_fails(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def call(command: list[str], **_: object) -> int:
        calls.append(command)
        return int(command[0].endswith("uv"))

    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.setattr(script, "install_uv", lambda: True)
    monkeypatch.setattr(script, "uv_environment", dict)
    script.install()
    assert [command[0].rpartition("/")[2] for command in calls] == ["uv", "python"]
    assert all("--require-hashes" in command for command in calls)


NOISY = [sys.executable, "-c", "print('noise'); raise SystemExit({})"]


@pytest.mark.parametrize("code", [0, 3])
def test_install_is_quiet_unless_it_fails(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    code: int,
) -> None:
    call = subprocess.call
    noisy = [NOISY[0], NOISY[1], NOISY[2].format(code)]
    monkeypatch.setattr(subprocess, "call", lambda _, **how: call(noisy, **how))
    monkeypatch.setattr(script, "install_uv", lambda: False)
    if code == 0:
        script.install()
    else:
        with pytest.raises(SystemExit):
            script.install()
    told = capfd.readouterr()
    assert told.out == ""
    assert ("noise" in told.err) == (code != 0)
    assert ("could not be installed" in told.err) == (code != 0)


def test_interrupted_install_is_one_line(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "bootstrap", interrupt)
    with pytest.raises(SystemExit):
        script.main()
    assert capsys.readouterr().err.strip().startswith("bigworld: stopped;")


def test_uv_inherits_the_settings_of_pip(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (
        b"global.index-url='https://mirror.example/simple'\n:env:.cert='/c.pem'\n"
    )

    def run(*_: object, **__: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess([], 0, settings)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    environment = script.uv_environment()
    assert environment["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert environment["SSL_CERT_FILE"] == "/c.pem"


@pytest.mark.parametrize(
    ("forbidden", "chosen", "kept_in"),
    [
        ("1", None, "here"),
        ("1", "/elsewhere", "/elsewhere"),
        ("", None, None),
        (None, None, None),
        (None, "/elsewhere", "/elsewhere"),
    ],
)
def test_compiled_code_is_kept(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    forbidden: str | None,
    chosen: str | None,
    kept_in: str | None,
) -> None:
    environment: dict[str, str] = {}
    if forbidden is not None:
        environment["PYTHONDONTWRITEBYTECODE"] = forbidden
    if chosen is not None:
        environment["PYTHONPYCACHEPREFIX"] = chosen
    monkeypatch.setattr(script.os, "environ", environment)
    monkeypatch.setattr(script, "bootstrap", lambda: None)
    monkeypatch.setattr(script.os, "execv", lambda *_: None)
    script.main()
    here = str(Path(script.VENV) / "compiled")
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    expected = here if kept_in == "here" else kept_in
    assert environment.get("PYTHONPYCACHEPREFIX") == expected
