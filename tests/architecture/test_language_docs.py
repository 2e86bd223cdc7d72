"""The language of the documents: short sentences, small tables, no banned words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_language import BANNED_PHRASES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAX_WORDS = 30
MAX_CELL = 150
MAX_PARAGRAPH_WORDS = 120

# Besides the phrases that the code may not use. Each stands for a word of our own where
# the field has one, or for a turn of phrase that has to be read twice.
BANNED = (
    r"rooms?|drawers?|liars?|liar's|strangers?|newcomers?|newborns?|whoever|lest",
    r"in this house|the house|the door",
    r"look-ups?|looked up|(?:be|is|are|was|were) asked for",
    r"parked|parking|set aside|set-aside|high[- ]water|gives way",
    r"distrusted|doubts?|lets? in|society|wakeful|pulses?|calm|owed",
    r"sent on|sends? on|sending on|in answer to|what became of",
    r"no alarm rings|rings?|in step|not taken in|taken in|at most so many|so many",
    r"lacks?|but for|is to follow|of which one|than was said|told of|tell of",
    r"nobody|somebody|everybody|anybody",
)
_BANNED = re.compile(
    rf"\b(?:{'|'.join((*BANNED, *map(re.escape, BANNED_PHRASES)))})\b", re.IGNORECASE
)
_FENCE = re.compile(r"(?ms)^ *```.*?^ *```\n?")
_COMMENT = re.compile(r"(?s)<!--.*?-->")
_CODE = re.compile(r"`[^`]*`")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
# A sentence ends at a mark that a space and a capital, a digit or the end follow.
_END = re.compile(r"[.!?][)\"”*]*(?=\s+[\"“(*]*[A-Z0-9`X]|\s*$)")


def prose(page: Path) -> str:
    """Return a page without commands and comments; code spans become the word X."""
    text = _COMMENT.sub("", _FENCE.sub("\n", page.read_text()))
    return _LINK.sub(r"\1", _CODE.sub("X", text)).replace("<", " ").replace(">", " ")


def paragraphs(text: str) -> Iterator[str]:
    """Yield paragraphs and list items, without tables and headings."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        bare = line.strip()
        starts = re.match(r"(?:[-*]|\d+\.) ", bare)
        if not bare or bare.startswith(("|", "#")) or starts:
            if block:
                yield " ".join(block)
            block = [bare] if starts else []
        else:
            block.append(bare)


def sentences(text: str) -> Iterator[str]:
    for paragraph in paragraphs(text):
        start = 0
        for match in _END.finditer(paragraph):
            yield paragraph[start : match.end()].strip()
            start = match.end()
        yield paragraph[start:].strip()


def word_count(sentence: str) -> int:
    return len(re.findall(r"[\w'’][\w'’./-]*", sentence))


def cells(page: Path) -> Iterator[str]:
    for line in _FENCE.sub("\n", page.read_text()).splitlines():
        if line.lstrip().startswith("|"):
            yield from (cell.strip() for cell in re.split(r"(?<!\\)\|", line))


def long_sentences(page: Path) -> list[str]:
    return [s for s in sentences(prose(page)) if word_count(s) > MAX_WORDS]


def long_paragraphs(page: Path) -> list[str]:
    found = paragraphs(prose(page))
    return [text for text in found if word_count(text) > MAX_PARAGRAPH_WORDS]


def long_cells(page: Path) -> list[str]:
    return [cell for cell in cells(page) if len(cell) > MAX_CELL]


def banned_words(page: Path) -> list[str]:
    text = " ".join(prose(page).split())
    return [
        text[max(0, match.start() - 30) : match.end() + 30]
        for match in _BANNED.finditer(text)
    ]


def label(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_docs_have_no_long_sentence(page: Path) -> None:
    assert long_sentences(page) == []


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_docs_have_no_long_paragraph(page: Path) -> None:
    assert long_paragraphs(page) == []


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_docs_have_no_long_table_cell(page: Path) -> None:
    assert long_cells(page) == []


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_docs_have_no_banned_words(page: Path) -> None:
    assert banned_words(page) == []


def test_rules_find_a_bad_page(tmp_path: Path) -> None:
    page = tmp_path / "bad.md"
    page.write_text(
        f"# Whoever\n\nA newcomer.\n\n{'word ' * 31}end.\n\n{'Short one. ' * 70}\n\n"
        f"| a | {'x' * 151} |\n\n```sh\nwhoever {'word ' * 31}\n```\n\n`whoever`\n"
    )
    assert len(long_sentences(page)) == 1
    assert len(long_paragraphs(page)) == 1
    assert len(long_cells(page)) == 1
    assert len(banned_words(page)) == 2
