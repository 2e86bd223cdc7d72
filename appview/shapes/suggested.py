"""Suggested accounts, feeds and starter packs, hydrated or as skeletons."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from appview.hydration.known_followers import load_known_of
from appview.hydration.starter_packs import load_packs
from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import Params
from appview.rules import Place, shown_actors, shown_records
from appview.session import Session
from appview.shapes.skeleton import Present
from appview.skeletons.suggestions import (
    entries_after,
    suggested_accounts,
    suggested_feeds,
    suggested_packs,
)
from appview.views.detailed_profile import known_profile_view
from appview.views.named import generator_view
from appview.views.profile import profile_view
from appview.views.starter_pack import starter_pack_view
from storage.records.addresses import Address

T = TypeVar("T", bound=int | Address)
Ranking = Callable[[Session, Params, Keyset | None], list[Entry[T]]]


def in_order(ranking: Ranking[T]) -> Callable[[Session, Params], Source[T]]:
    """Return the source of a list that is made whole for each page.

    `ranking(session, params, after)` returns all entries in order of their keysets.
    """

    def source(session: Session, params: Params) -> Source[T]:
        made: list[list[Entry[T]]] = []

        def fetch(after: Keyset | None, limit: int) -> list[Entry[T]]:
            if not made:
                made.append(ranking(session, params, after))
            return entries_after(made[0], after, limit)

        return Source(fetch)

    return source


def present_profiles(state: State, page: Page[int], _: Params) -> dict[str, Any]:
    """Return accounts in the field `actors`."""
    return {"actors": [profile_view(state, state.actors[a]) for a in page.items]}


def present_known(name: str) -> Present:
    """Return the `present` of accounts with their known followers, in a field."""

    def present(state: State, page: Page[int], _: Params) -> dict[str, Any]:
        load_known_of(state, page.items)
        return {name: [known_profile_view(state, actor) for actor in page.items]}

    return present


def present_feeds(state: State, page: Page[Address], _: Params) -> dict[str, Any]:
    """Return feed generators in the field `feeds`."""
    return {"feeds": [generator_view(state, address) for address in page.items]}


def present_packs(state: State, page: Page[Address], _: Params) -> dict[str, Any]:
    """Return starter packs in the field `starterPacks`."""
    return {"starterPacks": [starter_pack_view(state, a) for a in page.items]}


def account_suggestions(
    present: Present = present_profiles,
    *,
    ranking: Ranking[int] = lambda session, _, after: suggested_accounts(
        session, after
    ),
    has_cursor: bool = False,
) -> RowPages[int]:
    """Return pages of accounts, by default for the viewer."""
    return RowPages(
        in_order(ranking),
        Steps(
            hydrate=lambda state, page: state.load_actors(page.items),
            rules=lambda state, page: suggestible(state, page.items),
            present=present,
        ),
        has_cursor,
    )


def suggestible(state: State, actors: Iterable[int]) -> list[int]:
    """Return the accounts to suggest: neither the viewer nor followed already."""
    viewer = state.session.viewer_actor

    def is_new(actor: int) -> bool:
        relation = state.relations.get(actor)
        return actor != viewer and (relation is None or relation.following is None)

    return [a for a in shown_actors(state, Place.SUGGESTION, actors) if is_new(a)]


def feed_suggestions(
    present: Present = present_feeds, *, has_cursor: bool = False
) -> RowPages[Address]:
    """Return pages of feeds for the viewer, without those that the viewer likes."""

    def shown(state: State, page: Page[Address]) -> list[Address]:
        found = shown_records(state, Place.NAMED_SUGGESTION, page.items)
        liked = {a for a in found if _is_liked(state, a)}
        return [address for address in found if address not in liked]

    return RowPages(
        in_order(lambda session, _, after: suggested_feeds(session, after)),
        Steps(lambda state, page: state.load_named(page.items), shown, present),
        has_cursor,
    )


def _is_liked(state: State, address: Address) -> bool:
    reaction = state.reactions.get(address)
    return reaction is not None and reaction.like is not None


def pack_suggestions(
    present: Present = present_packs,
    load: Callable[[State, list[Address]], None] = load_packs,
) -> RowPages[Address]:
    """Return starter packs for the viewer."""
    return RowPages(
        in_order(lambda session, _, after: suggested_packs(session, after)),
        Steps(
            lambda state, page: load(state, page.items),
            lambda state, page: shown_records(
                state, Place.NAMED_SUGGESTION, page.items
            ),
            present,
        ),
        has_cursor=False,
    )
