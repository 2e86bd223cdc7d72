"""Records of the site.standard lexicons that stand behind a web page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from appview.hydration.records import Record
from storage.records.addresses import Address, find_addresses, find_collections

if TYPE_CHECKING:
    from appview.hydration.state import State

PREFIX: Final = "site.standard."
DOCUMENT: Final = f"{PREFIX}document"
PUBLICATION: Final = f"{PREFIX}publication"
_AT: Final = "at://"


class SitePages(NamedTuple):
    """Addresses of documents and publications, in the order of their names."""

    documents: list[Address]
    publications: list[Address]


def find_pages(state: State, uris: Iterable[str]) -> SitePages:
    """Return the documents and publications among AT-URIs that the index knows."""
    wanted = [*dict.fromkeys(uris)]
    conn = state.session.conn
    state.by_uri |= find_addresses(conn, {*wanted} - state.by_uri.keys())
    ids = find_collections(conn, {DOCUMENT, PUBLICATION})
    known = [state.by_uri[uri] for uri in wanted if uri in state.by_uri]
    return SitePages(
        *(
            [a for a in known if a.collection == ids.get(nsid)]
            for nsid in (DOCUMENT, PUBLICATION)
        )
    )


def load_pages(state: State, pages: SitePages) -> SitePages:
    """Load these records, the publications of the documents, authors and labels.

    The result has those publications too.
    """
    _load(state, [*pages.documents, *pages.publications])
    records = [state.records[a] for a in pages.documents if a in state.records]
    sites = [uri for record in records if (uri := site_uri(record)) is not None]
    more = find_pages(state, sites).publications
    _load(state, more)
    publications = dict.fromkeys([*pages.publications, *more])
    return SitePages(pages.documents, [*publications])


def site_uri(document: Record) -> str | None:
    """Return the AT-URI of a document's publication; None if it names a web site."""
    site = document.value.get("site")
    return site if isinstance(site, str) and site.startswith(_AT) else None


def _load(state: State, addresses: list[Address]) -> None:
    state.load_records(addresses)
    state.load_actors(a.actor for a in addresses if a in state.records)
    state.load_record_labels(addresses)
