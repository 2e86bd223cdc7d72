"""Pages of the viewer's private items, newest first."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from appview.paging import Entry, Keyset, Source
from appview.pipeline import Params
from appview.session import RequestContext
from appview.shapes.procedure import private_account_of
from storage.postgres.instants import from_micros, to_micros
from storage.private.private_items import Item, Kind, find_items

T = TypeVar("T", bound=Hashable)


def private_source(
    kind: Kind, read: Callable[[Item], T], *, flags: int | None = None
) -> Callable[[RequestContext, Params], Source[T]]:
    """Return the source of the items of a kind; with `flags` only of those that have
    these."""

    def source(context: RequestContext, _: Params) -> Source[T]:
        viewer = private_account_of(context)

        def fetch(after: Keyset | None, limit: int) -> list[Entry[T]]:
            keyset = (from_micros(after[0]), after[1]) if after else None
            with context.app.private.read() as conn:
                items = find_items(conn, viewer, kind, limit, keyset, flags=flags)
            return [Entry(read(i), [to_micros(i.at), i.subject]) for i in items]

        return Source(fetch, [viewer.id.hex()])

    return source


def subject_of(item: Item) -> str:
    """Return the DID or AT-URI that an item is about."""
    subject: str = item.value["subject"]
    return subject
