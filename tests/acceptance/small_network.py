"""`bigworld` with a demo network of 24 accounts, which starts in a few seconds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from demo import records
from demo.plan import Person
from service.cli import app

_ACCOUNTS = 24
_REPLIES = (60, 20)
_REACTIONS = (150, 30)


def main() -> None:
    """Run the command line with few demo accounts and records."""
    gather, planner = records.gather_people, records._Life
    answer, applaud = planner.answer, planner.applaud

    def gather_few(rng: random.Random, domains: Sequence[str]) -> list[Person]:
        return gather(rng, domains)[:_ACCOUNTS]

    def answer_little(self: Any, *_: int) -> None:
        answer(self, *_REPLIES)

    def applaud_little(self: Any, *_: int) -> None:
        applaud(self, *_REACTIONS)

    records.gather_people = gather_few
    planner.answer = answer_little
    planner.applaud = applaud_little
    app.main()


if __name__ == "__main__":
    main()
