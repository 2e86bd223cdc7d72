"""Every command block of README.md and docs, run against one small network.

A block runs unless its fence says otherwise: `background` is the start of the network
itself, `long` runs with --long, and `not-run="reason"` cannot run here. Blocks of one
page share a shell.
"""

from __future__ import annotations

import ast
import configparser
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import command_server
import pytest
import typer.main
from doc_blocks import PAGES, ROOT, SHELLS, Block, all_blocks, script_of
from test_whole_network import four_ports

from feeds.recipes.parsing import parse_recipe
from service.cli.app import app
from service.runtime.config import Config

MAX_NOT_RUN = 16
COMMANDS = typer.main.get_command(app)
SHELL_BLOCKS = list(all_blocks(*SHELLS))
TOML_BLOCKS = list(all_blocks("toml"))
RECIPES = [block for block in TOML_BLOCKS if block.words == "recipe"]
SETTINGS = [block for block in TOML_BLOCKS if block.words != "recipe"]
DEMO_RECIPES = ROOT / "demo" / "recipes"
RUN_PAGES = [page for page in PAGES if script_of(page, long=True)]


def by_name(block: Block) -> str:
    return block.name


def by_path(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def environment(short_folder: Path) -> dict[str, str]:
    """Return the environment of the commands: a new home and free ports."""
    scratch = short_folder / "docs-scratch"
    scratch.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BIGWORLD_")}
    return kept | {
        "BIGWORLD_HOME": str(short_folder / "docs"),
        "BIGWORLD_PORT_BASE": str(four_ports()),
        "TMPDIR": str(scratch),
    }


@pytest.fixture(scope="module")
def running(environment: dict[str, str]) -> Iterator[None]:
    """Run `up`, as the `background` blocks do, until the tests of the module end."""
    argv = [sys.executable, str(Path(__file__).with_name("small_network.py")), "up"]
    process = subprocess.Popen(
        argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("ready"):
            break
    else:
        raise AssertionError("".join(lines))
    yield
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.fixture(scope="module")
def preloaded(short_folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Return a shell function that runs `./bigworld` without a new interpreter."""
    path = short_folder / "docs-commands"
    argv = [sys.executable, command_server.__file__, str(path)]
    with subprocess.Popen(
        argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield command_server.shell_function(path)
        server.kill()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUN_PAGES, ids=by_path)
def test_doc_commands_succeed(
    page: Path,
    running: None,
    preloaded: str,
    environment: dict[str, str],
    request: pytest.FixtureRequest,
) -> None:
    long = request.config.getoption("--long")
    script = script_of(page, long=long)
    if not script:
        pytest.skip("all blocks are long: run with --long")
    if page.name != "README.md" and not long:
        script = preloaded + script
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stdout[-3_000:] + result.stderr[-3_000:]


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=by_name)
def test_doc_command_block_is_valid_shell(block: Block) -> None:
    assert block.words in ("", "background", "long") or block.reason, block.words
    if block.is_background:
        assert block.text == "./bigworld up\n"
    checked = subprocess.run(
        ["bash", "-n"], input=block.text, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=by_name)
def test_doc_command_exists_with_its_options(block: Block) -> None:
    for line in block.text.splitlines():
        found = re.search(r"\./bigworld ([^|;)&]*)", line.partition(" #")[0])
        if found:
            words = re.sub(r"[\"'\\]", "", found[1]).split()
            check_command(words)


def check_command(words: list[str]) -> None:
    command: Any = COMMANDS
    while words and words[0] in getattr(command, "commands", ()):
        # A group that is loaded on demand has the methods of the real one.
        command = command.commands[words.pop(0)].make_context.__self__
    assert command is not COMMANDS or words[0].startswith("--"), words
    # A group may run one of its commands by default.
    chosen = [command, *getattr(command, "commands", {}).values()]
    options = {name for one in chosen for p in one.params for name in p.opts}
    is_pytest = command.name == "test"
    for word in words:
        if word.startswith("--") and not is_pytest:
            assert word.partition("=")[0] in options | {"--help"}, word


def test_few_doc_command_blocks_are_not_run() -> None:
    assert sum(block.reason is not None for block in SHELL_BLOCKS) <= MAX_NOT_RUN


@pytest.mark.parametrize("block", SETTINGS, ids=by_name)
def test_doc_settings_are_valid(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bigworld.toml"
    file.write_text(block.text)
    for name in [name for name in os.environ if name.startswith("BIGWORLD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BIGWORLD_CONFIG", str(file))
    assert Config.read().model_fields_set >= set(re.findall(r"(?m)^\w+", block.text))


def test_doc_recipes_are_those_of_the_demo_network() -> None:
    shown = {parse_recipe(block.text).name: block.text for block in RECIPES}
    files = {path.stem: path.read_text() for path in DEMO_RECIPES.glob("*.toml")}
    assert shown == files
    assert len(files) == 10


@pytest.mark.parametrize("block", list(all_blocks("python")), ids=by_name)
def test_doc_python_is_valid(block: Block) -> None:
    ast.parse(block.text)


@pytest.mark.parametrize("block", list(all_blocks("systemd")), ids=by_name)
def test_doc_unit_file_is_valid(block: Block) -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(block.text)
    assert unit.sections() == ["Unit", "Service", "Install"]
    program, verb = unit["Service"]["ExecStart"].split()
    assert program == unit["Service"]["WorkingDirectory"] + "/bigworld"
    check_command([verb])


@pytest.mark.parametrize("block", list(all_blocks("ini")), ids=by_name)
def test_doc_environment_file_is_valid(block: Block) -> None:
    names = re.findall(r"(?m)^(\w+)=\S+$", block.text)
    assert len(names) == len(block.text.splitlines())
    settings = {f"BIGWORLD_{name.upper()}" for name in Config.model_fields}
    assert {name for name in names if name.startswith("BIGWORLD_")} <= settings
    if "POSTGRES_PASSWORD" in names:
        compose = (ROOT / "docker-compose.yml").read_text()
        assert set(re.findall(r"\$\{(\w+):\?", compose)) <= set(names)


@pytest.mark.parametrize("block", list(all_blocks("nginx", "caddy")), ids=by_name)
def test_doc_proxy_configuration_is_balanced(block: Block) -> None:
    assert block.text.count("{") == block.text.count("}") > 0
