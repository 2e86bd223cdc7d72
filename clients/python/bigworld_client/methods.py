"""Our methods, typed. Generated from the lexicons by `make docs`: do not edit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from bigworld_client.transport import Transport


class DeletePrivateDataOutput(TypedDict):
    """Reply of bigworld.account.deletePrivateData."""

    deleted: int
    """Number of deleted items and saved searches."""


class ExplainOutput(TypedDict):
    """Reply of bigworld.search.explain."""

    uri: str
    found: bool
    """True if the search shows the record to this viewer."""
    state: str
    reasons: list[str]
    """Sentences for people: what keeps the record out, or what placed it."""
    parts: list[ExplainPart]
    place: NotRequired[int]
    """Place among the first results, if it is among them."""
    signals: NotRequired[ExplainSignals]


class ExplainPart(TypedDict):
    """Object bigworld.search.explain#part."""

    part: str
    """A condition of the query, in the search language."""
    holds: bool
    fields: list[str]
    """Fields that hold the words."""


class ExplainSignals(TypedDict):
    """Object bigworld.search.explain#signals."""

    score: int
    """likes + 2 reposts + replies + 2 quotes"""
    sortAt: str
    languages: list[str]
    """Languages that the author declared."""
    detectedLanguage: NotRequired[str]


class ExportPrivateDataItem(TypedDict):
    """Object bigworld.account.exportPrivateData#item."""

    kind: str
    at: str
    value: Any


class ExportPrivateDataOutput(TypedDict):
    """Reply of bigworld.account.exportPrivateData."""

    cursor: NotRequired[str]
    items: list[ExportPrivateDataItem]
    savedSearches: NotRequired[list[ExportPrivateDataSavedSearch]]
    """On the first page."""


class ExportPrivateDataSavedSearch(TypedDict):
    """Object bigworld.account.exportPrivateData#savedSearch."""

    query: str
    name: str
    collections: list[str]
    savedAt: str
    webhook: NotRequired[str]


class GetBacklinkCountsCount(TypedDict):
    """Object bigworld.link.getBacklinkCounts#count."""

    source: str
    collection: str
    path: str
    links: int
    accounts: int
    atLeast: bool
    """True if there are more than were counted."""


class GetBacklinkCountsOutput(TypedDict):
    """Reply of bigworld.link.getBacklinkCounts."""

    subject: str
    counts: list[GetBacklinkCountsCount]


class GetBacklinksLink(TypedDict):
    """Object bigworld.link.getBacklinks#link."""

    uri: str
    did: str
    handle: NotRequired[str]
    collection: str
    rkey: str
    path: str
    """The place of the link in the record."""
    sortAt: str
    """The earlier of the record's createdAt and the time of its indexing."""


class GetBacklinksOutput(TypedDict):
    """Reply of bigworld.link.getBacklinks."""

    links: list[GetBacklinksLink]
    cursor: NotRequired[str]


class ListRecipesOutput(TypedDict):
    """Reply of bigworld.feed.listRecipes."""

    recipes: list[Recipe]


class ListRecordsAuthor(TypedDict):
    """Object bigworld.search.listRecords#author."""

    did: str
    handle: NotRequired[str]
    """Absent if it is not verified."""


class ListRecordsOutput(TypedDict):
    """Reply of bigworld.search.listRecords."""

    records: list[ListRecordsRecord]
    cursor: NotRequired[str]


class ListRecordsRecord(TypedDict):
    """Object bigworld.search.listRecords#record."""

    uri: str
    cid: str
    value: Any
    author: ListRecordsAuthor
    indexedAt: NotRequired[str]
    """Time of the first indexing. Absent for records that are one edge, such as
    likes.
    """


class ListSavedSearchesOutput(TypedDict):
    """Reply of bigworld.search.listSavedSearches."""

    searches: list[SavedSearch]


class PutSavedSearchOutput(TypedDict):
    """Reply of bigworld.search.putSavedSearch."""

    search: SavedSearch
    webhookSecret: NotRequired[str]
    """Key of the signatures of a new webhook. It is shown once."""


class Recipe(TypedDict):
    """Object bigworld.feed.defs#recipe."""

    uri: str
    """Address of the feed. Clients find it there once the record is written."""
    name: str
    recipe: str
    """The recipe as it was saved."""
    record: NotRequired[Any]
    """The app.bsky.feed.generator record to write into the repo of the account,
    without avatar and createdAt.
    """
    savedAt: str


class RecipeRecord(TypedDict):
    """Object bigworld.feed.recipe#record."""

    recipe: str
    """A recipe as TOML."""
    service: str
    """The provider that serves the feed. Others leave it alone."""
    createdAt: str


class SavedSearch(TypedDict):
    """Object bigworld.search.defs#savedSearch."""

    id: str
    query: str
    """A query in the search language."""
    name: NotRequired[str]
    collections: list[str]
    savedAt: str
    streamKey: str
    """Opens the matches of this search to everybody who has it."""
    pausedAt: NotRequired[str]
    """Time at which the search had found too much. Save it again to go on."""
    webhook: NotRequired[Webhook]


class SearchRecordsAuthor(TypedDict):
    """Object bigworld.search.searchRecords#author."""

    did: str
    handle: NotRequired[str]
    """Absent if it is not verified."""


class SearchRecordsCollectionCount(TypedDict):
    """Object bigworld.search.searchRecords#collectionCount."""

    collection: str
    count: int


class SearchRecordsFacets(TypedDict):
    """Object bigworld.search.searchRecords#facets."""

    counted: int
    """Number of results that were counted."""
    complete: bool
    """True if these are all results."""
    collections: list[SearchRecordsCollectionCount]


class SearchRecordsHit(TypedDict):
    """Object bigworld.search.searchRecords#hit."""

    uri: str
    cid: str
    value: Any
    author: SearchRecordsAuthor
    indexedAt: NotRequired[str]
    """Time of the first indexing. Absent for records that are one edge, such as
    likes.
    """
    snippet: NotRequired[SearchRecordsSnippet]


class SearchRecordsOutput(TypedDict):
    """Reply of bigworld.search.searchRecords."""

    records: list[SearchRecordsHit]
    hitsTotal: NotRequired[int]
    facets: NotRequired[SearchRecordsFacets]
    cursor: NotRequired[str]


class SearchRecordsSnippet(TypedDict):
    """Object bigworld.search.searchRecords#snippet."""

    text: str
    """The part of the searched text with most matches."""
    highlights: list[SearchRecordsSpan]


class SearchRecordsSpan(TypedDict):
    """Bytes of the UTF-8 of a snippet."""

    byteStart: int
    byteEnd: int


class SubscribeMatchesInfo(TypedDict):
    """Object bigworld.search.subscribeMatches#info."""

    name: str
    message: NotRequired[str]


class SubscribeMatchesMatch(TypedDict):
    """Object bigworld.search.subscribeMatches#match."""

    seq: int
    """Number of this match; rises, with gaps."""
    search: str
    """ID of the saved search."""
    uri: str
    cid: str
    """CID of the record as it is now."""
    record: Any
    matchedAt: str


class Webhook(TypedDict):
    """Object bigworld.search.defs#webhook."""

    url: str
    status: str
    error: NotRequired[str]
    """The last failure."""
    stoppedAt: NotRequired[str]
    """Time of giving up. Save the search again to go on."""


class Account:
    """Methods of bigworld.account."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def delete_private_data(
        self,
    ) -> DeletePrivateDataOutput:
        """Delete everything that bigworld.account.exportPrivateData returns. It
        cannot be undone.
        """
        reply: DeletePrivateDataOutput = self._transport.procedure(
            "bigworld.account.deletePrivateData", {}
        )
        return reply

    def export_private_data(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> ExportPrivateDataOutput:
        """Everything that this provider keeps about the requesting account and that
        is in no repo.
        """
        reply: ExportPrivateDataOutput = self._transport.query(
            "bigworld.account.exportPrivateData", {"limit": limit, "cursor": cursor}
        )
        return reply


class Feed:
    """Methods of bigworld.feed."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def delete_recipe(
        self,
        *,
        name: str,
    ) -> None:
        """Remove a recipe of the account, whose feed ends. An unknown one is no
        error.
        """
        self._transport.procedure("bigworld.feed.deleteRecipe", {"name": name})

    def list_recipes(
        self,
    ) -> ListRecipesOutput:
        """List the recipes of the account."""
        reply: ListRecipesOutput = self._transport.query(
            "bigworld.feed.listRecipes", {}
        )
        return reply

    def put_recipe(
        self,
        *,
        recipe: str,
    ) -> Recipe:
        """Save the recipe of a feed of the account, in the place of one of the same
        name. It is served at once.

        recipe: A recipe as TOML, or as a JSON object.
        """
        reply: Recipe = self._transport.procedure(
            "bigworld.feed.putRecipe", {"recipe": recipe}
        )
        return reply


class Link:
    """Methods of bigworld.link."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get_backlink_counts(
        self,
        *,
        subject: str,
        source: str | None = None,
    ) -> GetBacklinkCountsOutput:
        """Count the links to a record, an account or a web address, by collection and
        path.

        subject: The target of the links: an AT-URI, a DID or a web address.
        source: A collection, or a collection and a path, such as
            app.bsky.feed.like:subject.uri. Arrays are [].
        """
        reply: GetBacklinkCountsOutput = self._transport.query(
            "bigworld.link.getBacklinkCounts", {"subject": subject, "source": source}
        )
        return reply

    def get_backlinks(
        self,
        *,
        subject: str,
        source: str | None = None,
        did: Sequence[str] | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> GetBacklinksOutput:
        """List the records that link to a record, an account or a web address.

        subject: The target of the links: an AT-URI, a DID or a web address.
        source: A collection, or a collection and a path, such as
            app.bsky.feed.like:subject.uri. Arrays are [].
        did: Only records of these accounts.
        """
        reply: GetBacklinksOutput = self._transport.query(
            "bigworld.link.getBacklinks",
            {
                "subject": subject,
                "source": source,
                "did": did,
                "limit": limit,
                "cursor": cursor,
            },
        )
        return reply


class Search:
    """Methods of bigworld.search."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def delete_saved_search(
        self,
        *,
        id: str,
    ) -> None:
        """Remove a saved search of the account, with its webhook. An unknown one is
        no error.
        """
        self._transport.procedure("bigworld.search.deleteSavedSearch", {"id": id})

    def explain(
        self,
        *,
        q: str,
        uri: str,
        sort: str | None = None,
    ) -> ExplainOutput:
        """Explain why a record is, or is not, found by a query, and at which rank.

        q: A query, as in app.bsky.feed.searchPosts.
        uri: The record.
        """
        reply: ExplainOutput = self._transport.query(
            "bigworld.search.explain", {"q": q, "uri": uri, "sort": sort}
        )
        return reply

    def list_records(
        self,
        *,
        collection: str,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> ListRecordsOutput:
        """List every record of a collection, network-wide, newest indexed first.
        Records that are one edge, such as likes, are listed account by account.
        """
        reply: ListRecordsOutput = self._transport.query(
            "bigworld.search.listRecords",
            {"collection": collection, "limit": limit, "cursor": cursor},
        )
        return reply

    def list_saved_searches(
        self,
    ) -> ListSavedSearchesOutput:
        """Return the saved searches of the account, at most 100, oldest first."""
        reply: ListSavedSearchesOutput = self._transport.query(
            "bigworld.search.listSavedSearches", {}
        )
        return reply

    def put_saved_search(
        self,
        *,
        query: str,
        id: str | None = None,
        name: str | None = None,
        collections: Sequence[str] | None = None,
        webhook: str | None = None,
    ) -> PutSavedSearchOutput:
        """Save a search, or change a saved one. Records that are created or changed
        from now on are matched.

        query: A query in the search language, without in: and min_likes:.
        id: The saved search to change.
        collections: Types of records to search; posts by default.
        webhook: URL that matches are sent to. Without it, a webhook of this search is
            removed.
        """
        reply: PutSavedSearchOutput = self._transport.procedure(
            "bigworld.search.putSavedSearch",
            {
                "query": query,
                "id": id,
                "name": name,
                "collections": collections,
                "webhook": webhook,
            },
        )
        return reply

    def search_records(
        self,
        *,
        q: str | None = None,
        collection: Sequence[str] | None = None,
        author: str | None = None,
        lang: str | None = None,
        since: str | None = None,
        until: str | None = None,
        sort: str | None = None,
        facets: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SearchRecordsOutput:
        """Search records of any collection, network-wide.

        q: A query, as in app.bsky.feed.searchPosts; without one, all records that the
            other parameters select.
        collection: Collections to search; without one, every collection.
        lang: A language code, declared or detected.
        since: A date or a datetime, inclusive.
        until: A date or a datetime, exclusive.
        facets: Count the first results by collection.
        """
        reply: SearchRecordsOutput = self._transport.query(
            "bigworld.search.searchRecords",
            {
                "q": q,
                "collection": collection,
                "author": author,
                "lang": lang,
                "since": since,
                "until": until,
                "sort": sort,
                "facets": facets,
                "limit": limit,
                "cursor": cursor,
            },
        )
        return reply

    def subscribe_matches(
        self,
        *,
        key: Sequence[str],
        cursor: int | None = None,
    ) -> Iterator[SubscribeMatchesMatch | SubscribeMatchesInfo]:
        """Stream the matches of saved searches. A record that is gone or hidden by now
        is left out.

        key: Stream keys of saved searches.
        cursor: The last seen number. Without it the stream begins with the next match.
        """
        reply: Iterator[SubscribeMatchesMatch | SubscribeMatchesInfo] = (
            self._transport.subscribe(
                "bigworld.search.subscribeMatches", {"key": key, "cursor": cursor}
            )
        )
        return reply


class Client(Transport):
    """A client of one provider, or of a PDS that forwards to it."""

    def __init__(
        self,
        service: str,
        *,
        token: str | None = None,
        proxy: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> None:
        super().__init__(
            service,
            token=token,
            proxy=proxy,
            headers=headers,
            timeout=timeout,
        )
        self.account = Account(self)
        self.feed = Feed(self)
        self.link = Link(self)
        self.search = Search(self)
