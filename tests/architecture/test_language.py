"""The language of the code: docstrings, comments and names, held to the house rules."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: Final = (
    *PROJECT["tool"]["importlinter"]["root_packages"],
    "migrations",
    "tests",
)

MAX_SENTENCE_WORDS: Final = 30

BANNED_STARTS: Final = frozenset(
    ["who", "what", "whose", "whom", "whether", "how", "when", "where", "which", "of"]
)

# A function's docstring begins with an imperative verb: none of these is one.
NO_VERBS: Final = {
    "the", "a", "an", "all", "every", "each", "true", "false", "none", "this", "these",
    "it", "no", "some", "one", "our", "its",
}  # fmt: skip

# Words and phrases that readers stumble over, with the word to write instead.
BANNED_PHRASES: Final = {
    "but for": "except",
    "lest": "so that … not",
    "whoever": "any account, any client",
    "whatever": "any",
    "is to follow": "follows",
    "are to follow": "follow",
    "look-up": "lookup",
    "look-ups": "lookups",
    "looked up": "resolved, fetched",
    "liar": "a host that sends invalid frames",
    "liars": "hosts that send invalid frames",
    "stranger": "an unknown account, an untrusted host",
    "strangers": "unknown accounts, untrusted hosts",
    "newcomer": "a new account",
    "newcomers": "new accounts",
    "let in": "admit",
    "sent on": "rebroadcast",
    "sends on": "rebroadcasts",
    "in other hands": "applied by another process",
    "what became of": "the result of",
    "at most so many": "maximum number of",
    "society": "demo network",
}

BANNED_NAMES: Final = {
    "Parking": "PendingFrames",
    "SetAside": "Quarantined",
    "HighWater": "LowWatermark",
    "FetchPlaces": "FetchSlots",
    "gives_way": "preempt",
    "Passed": "GateResult",
    "distrusted": "to_resync",
    "doubts": "identities_to_refresh",
    "ScopeKeeper": "ScopeReconciler",
    "HolderSearch": "CollectionMembers",
    "Told": "ShardStats",
    "Asked": "LookupRequest",
    "Woken": "Wake",
    "Faulted": "StreamFault",
    "Wakeful": "PollingThread",
    "calm_interpreter": "tune_gc",
    "send_on": "rebroadcast",
    "SentEvents": "OutgoingEvents",
    "Society": "DemoNetwork",
}


class Text(NamedTuple):
    """A piece of prose in a file, by its line."""

    line: int
    text: str


def files(package: str) -> list[Path]:
    return [
        path
        for path in sorted((ROOT / package).rglob("*.py"))
        if "node_modules" not in path.parts and path != Path(__file__)
    ]


@cache
def parse(path: Path) -> list[ast.AST]:
    """Return all nodes of a file."""
    return [*ast.walk(ast.parse(path.read_text()))]


def docstrings(path: Path) -> Iterator[Text]:
    for node in parse(path):
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ):
            text = ast.get_docstring(node)
            if text:
                yield Text(node.body[0].lineno, text)


def comments(path: Path) -> Iterator[Text]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield Text(token.start[0], token.string)


def names(path: Path) -> Iterator[Text]:
    for node in parse(path):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield Text(node.lineno, node.name)
        elif isinstance(node, ast.Name):
            yield Text(node.lineno, node.id)
        elif isinstance(node, ast.Attribute):
            yield Text(node.lineno, node.attr)
        elif isinstance(node, ast.arg):
            yield Text(node.lineno, node.arg)


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of prose; code blocks, lists and tables end one."""
    for paragraph in re.split(r"\n\s*\n|\n\s*(?:[-*|│├└]|\d+\.)\s", text):
        yield from re.split(r"(?<=[.!?:;])\s+", " ".join(paragraph.split()))


def found(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(ROOT)}:{line}: {what}"


def wrong_starts(path: Path) -> Iterator[str]:
    for line, text in docstrings(path):
        first = re.split(r"[\s,.:;'’]", text, maxsplit=1)[0]
        if first.lower() in BANNED_STARTS:
            yield found(path, line, f"docstring begins with {first!r}")


def missing_verbs(path: Path) -> Iterator[str]:
    for node in parse(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and not node.name.startswith("test_"):
                first = text.split(maxsplit=1)[0].strip(".,:;").lower()
                if first in NO_VERBS:
                    yield found(path, node.lineno, f"docstring begins with {first!r}")


def long_sentences(path: Path) -> Iterator[str]:
    for line, text in docstrings(path):
        for sentence in sentences(text):
            count = len(sentence.split())
            if count > MAX_SENTENCE_WORDS:
                yield found(path, line, f"{count} words: {sentence[:60]}…")


def banned_phrases(path: Path) -> Iterator[str]:
    prose = [*docstrings(path), *comments(path)]
    prose += [
        Text(line, name.replace("_", " "))
        for line, name in names(path)
        if name.startswith("test_")
    ]
    for line, text in prose:
        flat = " ".join(text.lower().split())
        for phrase, better in BANNED_PHRASES.items():
            # The plain search leaves little to the pattern.
            if phrase in flat and re.search(
                rf"(?<![\w-]){re.escape(phrase)}(?![\w-])", flat
            ):
                yield found(path, line, f"{phrase!r}: write {better}")


def banned_names(path: Path) -> Iterator[str]:
    for line, name in names(path):
        if name.lstrip("_") in BANNED_NAMES:
            better = BANNED_NAMES[name.lstrip("_")]
            yield found(path, line, f"{name}: write {better}")


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_begin_with_a_verb_or_a_noun(package: str) -> None:
    assert [fault for path in files(package) for fault in wrong_starts(path)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_of_functions_begin_with_a_verb(package: str) -> None:
    assert [fault for path in files(package) for fault in missing_verbs(path)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_sentences_of_docstrings_are_short(package: str) -> None:
    assert [fault for path in files(package) for fault in long_sentences(path)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_prose_has_no_banned_phrase(package: str) -> None:
    assert [fault for path in files(package) for fault in banned_phrases(path)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_names_are_standard_terms(package: str) -> None:
    assert [fault for path in files(package) for fault in banned_names(path)] == []
