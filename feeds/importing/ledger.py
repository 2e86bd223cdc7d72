"""The parts of an imported feed, and the result for each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

MAX_REASON_CHARS: Final = 200


class Result(StrEnum):
    """The ways in which a part of a feed is in the recipe."""

    EXACT = "exact"
    ROUGH = "rough"  # the recipe chooses other posts at the margins
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Entry:
    """A part, named by its path in the imported file and by its kind."""

    path: str
    kind: str
    result: Result = Result.EXACT
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.result}: {self.reason}"


class Ledger:
    """The entries of one import, by path."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    @property
    def entries(self) -> list[Entry]:
        """Return all parts in the order in which they were read."""
        return [*self._entries.values()]

    def exact(self, path: str, kind: str) -> None:
        """Note a part that the recipe holds as it was."""
        self._entries.setdefault(path, Entry(path, kind))

    def rough(self, path: str, kind: str, reason: str) -> None:
        """Note a part that the recipe holds roughly."""
        self._note(Entry(path, kind, Result.ROUGH, _clean(reason)))

    def leave_out(self, path: str, kind: str, reason: str) -> None:
        """Note a part that is not in the recipe."""
        self._note(Entry(path, kind, Result.LEFT_OUT, _clean(reason)))

    def leave_out_below(self, path: str, reason: str) -> None:
        """Note that a part and all parts in it are not in the recipe after all."""
        for key, entry in self._entries.items():
            inside = key == path or key.startswith((f"{path}.", f"{path}["))
            if inside and entry.result is not Result.LEFT_OUT:
                self._entries[key] = replace(
                    entry, result=Result.LEFT_OUT, reason=_clean(reason)
                )

    def roughen_below(self, path: str, reason: str) -> None:
        """Note that a part and all exact parts in it are only roughly in the recipe."""
        for key, entry in self._entries.items():
            inside = key == path or key.startswith((f"{path}.", f"{path}["))
            if inside and entry.result is Result.EXACT:
                self._entries[key] = replace(
                    entry, result=Result.ROUGH, reason=_clean(reason)
                )

    def kinds(self) -> dict[str, Result]:
        """Return the best result of each kind."""
        order = [*Result]
        found: dict[str, Result] = {}
        for entry in self._entries.values():
            best = found.get(entry.kind, Result.LEFT_OUT)
            found[entry.kind] = min(best, entry.result, key=order.index)
        return found

    def _note(self, entry: Entry) -> None:
        known = self._entries.get(entry.path)
        if known is None or known.result is not Result.LEFT_OUT:
            self._entries[entry.path] = entry


def _clean(reason: str) -> str:
    """Return a reason as one line of a comment."""
    line = "".join(c if c.isprintable() else " " for c in reason)
    return line if len(line) <= MAX_REASON_CHARS else f"{line[:MAX_REASON_CHARS]}…"
