"""Links to a record, an account or a web address: targets, sources and pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import Params
from appview.rules import Place, shown_actors
from appview.session import Session
from network.xrpc.server import XrpcError
from protocol.errors import InvalidSyntaxError
from protocol.syntax import is_did, is_handle, is_nsid, parse_at_uri
from storage.records.addresses import Address, find_actors, find_collections
from storage.records.backlinks import LinkSource, find_links, link_keyset
from storage.records.link_paths import (
    LinkPath,
    Target,
    find_paths,
    find_paths_to,
    find_target,
    url_target,
)

MAX_SUBJECT_CHARS: Final = 8_192


class FoundLink(NamedTuple):
    """A link, and its place in its record."""

    path: LinkPath
    collection: int
    source: LinkSource

    @property
    def address(self) -> Address:
        """Return the address of the record that links."""
        return Address(self.source.actor, self.collection, self.source.rkey)


LinksPage = Page[FoundLink]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A target and the paths of its links. Without a target nothing links to it."""

    target: Target | None
    paths: Sequence[LinkPath]


def read_wanted(session: Session, params: Params) -> Wanted:
    """Return what the parameters `subject` and `source` name. Raises XrpcError."""
    target = read_target(session, params["subject"])
    source = params.get("source")
    if target is None:
        read_source(source) if source else None
        return Wanted(None, ())
    if not source:
        return Wanted(target, find_paths_to(session.conn, target))
    return Wanted(target, find_paths(session.conn, *read_source(source)))


def read_target(session: Session, subject: str) -> Target | None:
    """Return the target that a subject names; None if the index does not know it.

    Raises XrpcError.
    """
    text = subject.strip()
    if len(text) > MAX_SUBJECT_CHARS:
        raise XrpcError("InvalidSubject", "the subject is too long", 400)
    if text.startswith(("http://", "https://")):
        return url_target(text)
    conn = session.conn
    if text.startswith("at://"):
        try:
            uri = parse_at_uri(text)
        except InvalidSyntaxError as error:
            raise XrpcError("InvalidSubject", str(error), 400) from error
        nsid = None if uri.collection is None else str(uri.collection)
        rkey = None if uri.rkey is None else str(uri.rkey)
        actor = session.find_actor(str(uri.authority))
        return None if actor is None else find_target(conn, actor, nsid, rkey)
    if is_did(text) or is_handle(text):
        actor = session.find_actor(text)
        return None if actor is None else find_target(conn, actor, None, None)
    raise XrpcError(
        "InvalidSubject", "the subject is no AT-URI, DID, handle or web address", 400
    )


def read_source(source: str) -> tuple[str, str | None]:
    """Return the collection of a source, and its path. Raises XrpcError."""
    nsid, colon, path = source.partition(":")
    if not is_nsid(nsid):
        raise XrpcError(
            "InvalidSource",
            f"{nsid[:80]!r} is not an NSID; write app.bsky.feed.like:subject.uri",
            400,
        )
    if not colon or not path:
        return nsid, None
    return nsid, path if path.startswith((".", "[")) else f".{path}"


def link_pages(
    name: str,
    view: Callable[[State, FoundLink], dict[str, Any]],
    more: Callable[[Session, Params], dict[str, Any]] = lambda session, params: {},
) -> RowPages[FoundLink]:
    """Return pages of links in the field `name`, with the fields of `more`."""

    def source(session: Session, params: Params) -> Source[FoundLink]:
        wanted = read_wanted(session, params)
        if wanted.target is None:
            return Source(lambda after, limit: [])
        of = None
        if params.get("did"):
            of = [*find_actors(session.conn, params["did"]).values()]
        return Source(_Fetch(session, wanted.target, wanted.paths, of), wanted.target)

    def present(state: State, page: LinksPage, params: Params) -> dict[str, Any]:
        return {
            **more(state.session, params),
            name: [view(state, link) for link in page.items],
        }

    return RowPages(source, Steps(hydrate=_load, rules=_shown, present=present))


@dataclass(frozen=True, slots=True)
class _Fetch:
    """Links of one path after another. A keyset begins with the path."""

    session: Session
    target: Target
    paths: Sequence[LinkPath]
    of: Sequence[int] | None

    def __call__(self, after: Keyset | None, limit: int) -> list[Entry[FoundLink]]:
        conn = self.session.conn
        collections = find_collections(conn, {path.nsid for path in self.paths})
        found: list[Entry[FoundLink]] = []
        for path in self.paths:
            start = None
            if after is not None:
                if path.id < after[0]:
                    continue
                if path.id == after[0]:
                    start = after[1:]
            page = find_links(
                conn,
                path.id,
                self.target,
                limit=limit - len(found),
                after=start,
                of=self.of,
            )
            for link in page[0]:
                keyset = [path.id, *link_keyset(page, start, link)]
                item = FoundLink(path, collections[path.nsid], link)
                found.append(Entry(item, keyset))
            if len(found) >= limit:
                break
        return found


def _load(state: State, page: LinksPage) -> None:
    state.load_actors(link.source.actor for link in page.items)
    state.name(link.address for link in page.items)


def _shown(state: State, page: LinksPage) -> list[FoundLink]:
    actors = {link.source.actor for link in page.items}
    shown = {*shown_actors(state, Place.ACTOR_HIT, actors)}
    return [
        link
        for link in page.items
        if link.source.actor in shown
        and link.address in state.uris
        and not state.is_taken_down(link.address)
    ]


def link_record(state: State, link: FoundLink) -> dict[str, str]:
    """Return account, collection and key of the record that links."""
    rkey = state.uris[link.address].rsplit("/", 1)[1]
    return {
        "did": state.actors[link.source.actor].did,
        "collection": link.path.nsid,
        "rkey": rkey,
    }
