"""The documents, held against the code they describe."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

from mirror.jetstream_options import MAX_COLLECTIONS, MAX_DIDS
from network.http.client import Fetcher
from network.http.policy import Policy
from network.streams.event_feed import EventFeed
from network.streams.stream_server import CONSUMER_TOO_SLOW, FUTURE_CURSOR, StreamServer
from network.streams.stream_server import OUTDATED_CURSOR as INFO_OUTDATED
from network.xrpc.server import XrpcServer
from pds.application import create_app as create_pds
from pds.settings import PdsSettings
from protocol.events.drops import DropReason
from service.cli.app import app
from service.monitoring.alarms import EXPLANATIONS, AlarmKind
from service.provider import make_server
from service.runtime.config import Config

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def text(name: str) -> str:
    return (ROOT / name).read_text()


def verbs() -> list[str]:
    return sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def table_words(page: str) -> set[str]:
    """The first `code` of every table row of a page."""
    return set(re.findall(r"(?m)^\| `([^`]+)`", page))


def test_every_setting_is_documented_and_no_other() -> None:
    settings = {f"BIGWORLD_{name.upper()}" for name in Config.model_fields}
    assert table_words(text("docs/configuration.md")) == settings


def test_documented_defaults_are_the_defaults() -> None:
    rows = re.findall(
        r"(?m)^\| `BIGWORLD_(\w+)`[^|]*\| `([^`]+)` \|", text("docs/configuration.md")
    )
    assert len(rows) > 8
    for name, shown in rows:
        default = Config.model_fields[name.lower()].default
        if default is not None:
            assert str(default).lower().removesuffix(".0") == shown, name


@pytest.mark.parametrize("name", Config.model_fields)
def test_every_setting_describes_itself(name: str) -> None:
    assert Config.model_fields[name].description


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_is_documented(verb: str) -> None:
    assert f"| `{verb}` |" in text("docs/operations.md")


def test_no_verb_is_documented_that_does_not_exist() -> None:
    section = text("docs/operations.md").partition("## Commands")[2]
    section = section.partition("\n## ")[0]
    assert table_words(section) == set(verbs())


def test_every_verb_explains_itself() -> None:
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_every_drop_reason_is_documented_and_no_other() -> None:
    section = text("docs/operations.md").partition("## What was dropped and why")[2]
    assert table_words(section) == {reason.value for reason in DropReason}


def test_every_alarm_is_documented_as_the_doctor_says_it() -> None:
    section = text("docs/operations.md").partition("## Watching")[2]
    section = section.partition("\n## ")[0]
    rows = dict(re.findall(r"(?m)^\| `([^`]+)` \| (.+) \|$", section))
    assert rows == {kind.value: EXPLANATIONS[kind].means for kind in AlarmKind}


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.split(r"\[", requirement)[0] for requirement in wanted}
    rows = re.findall(r"(?m)^\| ([\w-]+) \| \w", text("docs/dependencies.md"))
    assert set(rows) - {"library"} == names


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda p: p.name
)
def test_links_between_pages_hold(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


class _CaptureError(Exception):
    """Carries the methods of a server out of the function that builds it."""


def registered(
    build: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> set[str]:
    def capture(server: XrpcServer, *_: object, **__: object) -> None:
        raise _CaptureError(*server.methods)

    monkeypatch.setattr(XrpcServer, "app", capture)
    with pytest.raises(_CaptureError) as caught:
        build()
    return set(caught.value.args)


def documented_methods(section: str) -> set[str]:
    page = text("docs/methods.md").partition(f"## {section}")[2]
    return table_words(page.partition("\n## ")[0])


def test_methods_of_the_provider(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nobody: Any = None
    config = Config.read(home=tmp_path)

    def build() -> None:
        make_server(config, nobody, nobody).app()

    assert registered(build, monkeypatch) == documented_methods("The provider")


def test_streams_are_described_as_they_are() -> None:
    page = text("docs/streams.md")
    words = table_words(page)
    assert {name for name in words if name.startswith("BIGWORLD_")} == {
        f"BIGWORLD_{name.upper()}"
        for name in Config.model_fields
        if name.startswith("event_log")
    }
    server, feed = StreamServer.__init__, EventFeed.__init__
    assert server.__kwdefaults__["send_timeout"] == 20
    assert (feed.__kwdefaults__["ring_events"], feed.__kwdefaults__["ring_bytes"]) == (
        5_000,
        64_000_000,
    )
    assert "5,000 events or 64 MB behind, or leaves a frame unread for 20 s" in page
    for name in (INFO_OUTDATED, FUTURE_CURSOR, CONSUMER_TOO_SLOW):
        assert f"`{name}`" in page
    options = {"wantedCollections", "wantedDids", "maxMessageSizeBytes", "cursor"}
    assert words >= options | {"requireHello", "compress"}
    assert f"up to {MAX_COLLECTIONS} times" in page
    assert f"up to {MAX_DIDS:,} times" in page


def test_methods_of_the_pds(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody: Any = None
    settings = PdsSettings(
        public_url="https://pds.example.com",
        handle_domains=("example.com",),
        plc_url="https://plc.example.com",
        secret=bytes(32),
    )

    def build() -> None:
        create_pds(settings, nobody, fetcher=Fetcher(Policy()), identity=nobody)

    wanted = documented_methods("The Personal Data Server")
    assert registered(build, monkeypatch) == wanted
