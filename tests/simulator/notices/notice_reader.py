"""The provider on the index of a simulation, and the pages that it answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from appview_world import Generator, Provider, serve_index
from notice_model import NoticeModel
from oracle import Expected
from small_world import World

from protocol.syntax import TidClock
from storage.postgres.pool import open_pool

NOTICES = "app.bsky.notification.listNotifications"
_SMALL_PAGE = 3


@contextmanager
def serving(index: str, private: str) -> Iterator[Provider]:
    """Serve an index beside a private database."""
    with (
        open_pool(index, max=4) as pool,
        open_pool(private, max=4) as names,
        serve_index(pool, names) as (url, app),
    ):
        world = World(TidClock(1, lambda: 0))
        yield Provider(url, world, {}, index, app, Generator([]))


def find_notice_faults(
    provider: Provider, accounts: Iterable[Expected], *, most: int = 8
) -> list[str]:
    """Compare the notifications of all accounts, read to the end, with the records.

    Every fourth account is read in small pages.
    """
    model = NoticeModel([*accounts])
    inboxes = model.inboxes()
    faults: list[str] = []
    for number, did in enumerate(model.recipients()):
        name = did.removeprefix("did:plc:")
        limit = _SMALL_PAGE if number % 4 == 1 else 100
        pages = provider.pages(
            NOTICES, "notifications", most=2_000, viewer=name, limit=limit
        )
        faults += inboxes.compare(did, pages)
    return faults[:most]
