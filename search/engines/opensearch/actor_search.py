"""Searches of accounts in OpenSearch: by filters, so that they are exact and paged."""

from __future__ import annotations

from typing import Any

from search.engines.account_query import EXACT, FOLLOWED, OTHER, AccountQuery
from search.engines.contract import ActorHit
from search.engines.opensearch.cluster_client import OpenSearchClient

Fields = dict[str, Any]


def search_actors(
    client: OpenSearchClient, index: str, query: AccountQuery
) -> list[ActorHit]:
    """Return a page of accounts, rank by rank until it is full."""
    hits: list[ActorHit] = []
    groups = _groups(query)
    for rank in query.ranks:
        if len(hits) >= query.limit:
            break
        body: Fields = {
            "query": {"bool": groups[rank]},
            "sort": [{"followers": "desc"}, {"actor": "desc"}],
            "size": query.limit - len(hits),
            "_source": False,
        }
        if query.after is not None and rank == query.after[0]:
            body["search_after"] = query.after[1:]
        found = client.search(index, body)["hits"]
        hits += [ActorHit(int(hit["_id"]), [rank, *hit["sort"]]) for hit in found]
    return hits


def _groups(query: AccountQuery) -> dict[int, Fields]:
    *whole, last = query.tokens
    words: list[Fields] = [{"term": {query.field: token}} for token in whole]
    words.append({"prefix": {query.field: last}})
    exact = {"term": {"handle": query.handle}}
    followed = {"terms": {"actor": list(query.follows)}}
    return {
        EXACT: {"filter": [*words, exact]},
        FOLLOWED: {"filter": [*words, followed], "must_not": [exact]},
        OTHER: {"filter": words, "must_not": [exact, followed]},
    }
