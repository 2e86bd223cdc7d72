"""The fenced blocks of README.md and docs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELLS = {"sh", "bash", "console"}
_FENCE = re.compile(r"(?ms)^( *)```(\w+)([^\n]*)\n(.*?)^\1```")
_REASON = re.compile(r'not-run="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `words` is what follows the language."""

    page: Path
    number: int
    language: str
    words: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)} block {self.number}"

    @property
    def reason(self) -> str | None:
        """Return the reason why the block is not run, or None."""
        found = _REASON.fullmatch(self.words)
        return found[1] if found else None

    @property
    def is_background(self) -> bool:
        return self.words == "background"

    @property
    def is_long(self) -> bool:
        return self.words == "long"


def blocks_of(page: Path) -> list[Block]:
    return [
        Block(page, number, match[2], match[3].strip(), textwrap.dedent(match[4]))
        for number, match in enumerate(_FENCE.finditer(page.read_text()), 1)
    ]


def all_blocks(*languages: str) -> Iterator[Block]:
    for page in PAGES:
        yield from (b for b in blocks_of(page) if b.language in languages)


def script_of(page: Path, *, long: bool) -> str:
    """Return the blocks of a page that run, as one script that names each."""
    lines = ["set -euo pipefail"]
    for block in blocks_of(page):
        if block.language not in SHELLS or block.is_background or block.reason:
            continue
        if block.is_long and not long:
            continue
        lines += [f"echo '### {block.name}'", block.text]
    return "\n".join(lines) + "\n" if len(lines) > 1 else ""
