"""`bigworld` with a demo network of 24 accounts, which starts in a few seconds."""

from __future__ import annotations

import random
from collections.abc import Sequence

from service import cli
from service.society import life
from service.society.plan import Person

_ACCOUNTS = 24
_gather = life.gather_people


def _gather_few(rng: random.Random, domains: Sequence[str]) -> list[Person]:
    return _gather(rng, domains)[:_ACCOUNTS]


def main() -> None:
    """Run the command line with fewer demo accounts and records."""
    planner = life._Life
    answer, applaud = planner.answer, planner.applaud
    life.gather_people = _gather_few
    planner.answer = lambda self, *_: answer(self, 60, 20)  # type: ignore[method-assign]
    planner.applaud = lambda self, *_: applaud(self, 150, 30)  # type: ignore[method-assign]
    cli.main()


if __name__ == "__main__":
    main()
