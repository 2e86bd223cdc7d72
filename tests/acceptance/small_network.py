"""`bigworld` with a demo network of 24 accounts, which starts in a few seconds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from demo import records
from demo.plan import DemoAccount
from service.cli import app

_ACCOUNTS = 24
_REPLIES = (60, 20)
_REACTIONS = (150, 30)


def main() -> None:
    """Run the command line with few demo accounts and records."""
    gather, planner = records.make_accounts, records.Planner
    answer, write_reactions = planner.write_replies, planner.write_reactions

    def gather_few(rng: random.Random, domains: Sequence[str]) -> list[DemoAccount]:
        return gather(rng, domains)[:_ACCOUNTS]

    def answer_little(self: Any, *_: int) -> None:
        answer(self, *_REPLIES)

    def applaud_little(self: Any, *_: int) -> None:
        write_reactions(self, *_REACTIONS)

    records.make_accounts = gather_few
    planner.write_replies = answer_little
    planner.write_reactions = applaud_little
    app.main()


if __name__ == "__main__":
    main()
