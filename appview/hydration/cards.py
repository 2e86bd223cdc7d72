"""Records behind the link cards of posts: documents and publications of web pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from appview.hydration.records import Post, load_records
from appview.hydration.site_standard import PREFIX, SitePages, find_pages
from protocol.data.cbor import Value
from protocol.syntax import is_at_uri, parse_at_uri
from storage.records.addresses import Address
from storage.records.record_allowance import Allowance

if TYPE_CHECKING:
    from appview.hydration.state import State

MAX_CARD_BYTES: Final = 2_000_000
MAX_CARD_ITEMS: Final = 50_000
"""Bounds of the records loaded for cards, apart from those of posts."""
MAX_CARD_REFS: Final = 4
"""References of a card that are followed."""

Reference = tuple[str, str]
"""AT-URI and CID."""


class Cards:
    """The documents and publications of the cards of one answer."""

    def __init__(self) -> None:
        self._allowance = Allowance(MAX_CARD_BYTES, MAX_CARD_ITEMS)
        self._documents: set[Address] = set()
        self._publications: set[Address] = set()

    def load(self, state: State, posts: Iterable[Post]) -> None:
        """Load the records that the cards of posts refer to, with their authors."""
        uris = {uri for post in posts for uri, _ in _references(post)}
        if not uris:
            return
        found = find_pages(state, uris)
        self._documents |= {*found.documents}
        self._publications |= {*found.publications}
        wanted = {*found.documents, *found.publications} - state.records.keys()
        records = load_records(state.session.conn, wanted, self._allowance)
        state.records |= records
        state.name(records)
        state.load_actors(address.actor for address in records)
        state.load_record_labels(records)

    def pages(self, state: State, external: dict[str, Value]) -> SitePages:
        """Return the records of a card that are as it refers to them."""
        known = [
            address
            for uri, cid in card_references(external)
            if (address := state.by_uri.get(uri)) in state.records
            and address is not None
            and state.records[address].cid == cid
        ]
        return SitePages(
            [address for address in known if address in self._documents],
            [address for address in known if address in self._publications],
        )


def card_references(external: dict[str, Value]) -> list[Reference]:
    """Return the first references of a card to records behind its page."""
    refs = external.get("associatedRefs")
    return [*_page_references(refs if isinstance(refs, list) else [])][:MAX_CARD_REFS]


def _page_references(refs: list[Value]) -> Iterator[Reference]:
    for ref in refs:
        uri = ref.get("uri") if isinstance(ref, dict) else None
        cid = ref.get("cid") if isinstance(ref, dict) else None
        if not isinstance(uri, str) or not isinstance(cid, str) or not is_at_uri(uri):
            continue
        if str(parse_at_uri(uri).collection).startswith(PREFIX):
            yield uri, cid


def _references(post: Post) -> list[Reference]:
    embed = post.record.value.get("embed")
    media = embed.get("media") if isinstance(embed, dict) else None
    for part in (embed, media):
        external = part.get("external") if isinstance(part, dict) else None
        if isinstance(external, dict):
            return card_references(external)
    return []
