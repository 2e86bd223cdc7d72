"""Accounts beside the one that they follow or are followed by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import Params
from appview.refusals import refuse_subject
from appview.rules import Place, shown_actors
from appview.session import Session
from appview.skeletons.named_accounts import require_account
from appview.skeletons.suggestions import entries_after
from appview.views.profile import profile_view
from storage.postgres.pool import Conn
from storage.records.backlinks import LinkPage, link_keyset

TOP: Final = "top"
Rank = Callable[[Conn, int], list[Entry[int]]]


def follow_pages(find: Callable[..., LinkPage], rank: Rank, name: str) -> RowPages[int]:
    """Return pages of accounts in the field `name`.

    `find` reads them by time, `rank` those that `sort=top` asks for.
    """

    def source(session: Session, params: Params) -> Source[int]:
        subject = require_account(session, params["actor"])

        def fetch_top(after: Keyset | None, limit: int) -> list[Entry[int]]:
            return entries_after(rank(session.conn, subject), after, limit)

        def fetch(after: Keyset | None, limit: int) -> list[Entry[int]]:
            page = find(session.conn, subject, limit=limit, after=after)
            return [Entry(k.actor, link_keyset(page, after, k)) for k in page[0]]

        is_top = params.get("sort") == TOP
        return Source(fetch_top if is_top else fetch, [subject], params["actor"])

    return RowPages(
        source,
        Steps(
            hydrate=lambda state, page: state.load_actors([*page.subject, *page.items]),
            rules=_shown,
            present=lambda state, page, _: {
                "subject": profile_view(state, state.actors[page.subject[0]]),
                name: [profile_view(state, state.actors[a]) for a in page.items],
            },
        ),
    )


def _shown(state: State, page: Page[int]) -> list[int]:
    [subject] = page.subject
    refuse_subject(state, subject, page.query_text)
    return shown_actors(state, Place.FOLLOW, page.items, beside=subject)
