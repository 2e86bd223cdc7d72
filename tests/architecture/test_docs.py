"""The documents, held against the code they describe."""

from __future__ import annotations

import pkgutil
import re
import tomllib
from pathlib import Path

import pytest
import typer.main

from mirror.jetstream_options import MAX_COLLECTIONS, MAX_DIDS
from network.streams.event_feed import EventFeed
from network.streams.stream_server import CONSUMER_TOO_SLOW, FUTURE_CURSOR, StreamServer
from network.streams.stream_server import OUTDATED_CURSOR as INFO_OUTDATED
from protocol.events.drops import DropReason
from service.cli.app import app
from service.runtime.config import Config

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["importlinter"]["root_packages"]


def text(name: str) -> str:
    return (ROOT / name).read_text()


def table_words(page: str) -> set[str]:
    """Return the first `code` of every table row of a page."""
    return set(re.findall(r"(?m)^\| `([^`]+)`", page))


def test_every_verb_explains_itself() -> None:
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_every_drop_reason_is_documented_and_no_other() -> None:
    page = text("docs/reference/drop-reasons.md")
    assert table_words(page) == {reason.value for reason in DropReason}


def test_every_dependency_has_its_reason() -> None:
    project = PROJECT["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.split(r"\[", requirement)[0] for requirement in wanted}
    rows = re.findall(r"(?m)^\| ([\w-]+) \| \w", text("docs/dependencies.md"))
    assert set(rows) - {"library"} == names


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as they are made on the web."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_hold(page: Path) -> None:
    for target, anchor in re.findall(
        r"\]\((?!\w+:)([^)#]*)(?:#([^)]*))?\)", page.read_text()
    ):
        found = page.parent / target if target else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_named_files_and_modules_exist(page: Path) -> None:
    for name in re.findall(r"`([\w./]+)`", page.read_text()):
        if re.fullmatch(r"[\w./]+\.(?:py|md|toml|yml|txt)", name):
            found = (ROOT / name).exists() or any((ROOT / "tests").rglob(name))
            assert found or name in ("bigworld.toml", "pictures.py"), name
        elif re.fullmatch(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+(?<!\.com)", name):
            assert pkgutil.resolve_name(name), name


def test_every_page_is_on_the_map() -> None:
    linked = re.findall(r"\]\(([^)#:]+)\)", text("docs/README.md"))
    pages = {path.relative_to(DOCS) for path in DOCS.rglob("*.md")}
    missing = {page for page in pages if page.parent.name != "adr"} - set(
        map(Path, linked)
    )
    assert missing == {Path("README.md")}


def test_streams_are_described_as_they_are() -> None:
    page = text("docs/reference/streams.md")
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
    assert "5,000 events or 64 MB behind" in page
    assert "unread for 20 s" in page
    for name in (INFO_OUTDATED, FUTURE_CURSOR, CONSUMER_TOO_SLOW):
        assert f"`{name}`" in page
    options = {"wantedCollections", "wantedDids", "maxMessageSizeBytes", "cursor"}
    assert words >= options | {"requireHello", "compress"}
    assert f"up to {MAX_COLLECTIONS} times" in page
    assert f"up to {MAX_DIDS:,} times" in page
