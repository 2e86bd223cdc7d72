"""Searches of accounts in OpenSearch: by filters, so that they are exact and paged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from search.engines.contract import ActorHit
from search.engines.encoding import encode_token, encode_value
from search.engines.opensearch.cluster_client import OpenSearchClient
from search.query.nodes import Kind
from search.text.tokens import query_tokens

_EXACT: Final = 2
_FOLLOWED: Final = 1
_OTHER: Final = 0
_MAX_TOKENS: Final = 16
_MAX_FOLLOWS: Final = 5_000
Fields = dict[str, Any]


def search_actors(
    client: OpenSearchClient,
    index: str,
    field: str,
    text: str,
    limit: int,
    after: list[Any] | None,
    follows: Sequence[int],
) -> list[ActorHit]:
    """Return accounts whose `field` holds every word, the last one perhaps begun.

    A keyset is (rank, followers, actor): the exact handle, followed ones, others.
    """
    wanted = text.replace("\0", " ").strip().removeprefix("@").lower()
    tokens = [
        encode_token(token)
        for clause in query_tokens(wanted)[:_MAX_TOKENS]
        for token in clause.tokens
    ][:_MAX_TOKENS]
    if not tokens or limit < 1:
        return []
    words: list[Fields] = [{"term": {field: token}} for token in tokens[:-1]]
    words.append({"prefix": {field: tokens[-1]}})
    hits: list[ActorHit] = []
    for rank, group in _groups(words, wanted, follows).items():
        if len(hits) < limit and (after is None or rank <= after[0]):
            body: Fields = {
                "query": {"bool": group},
                "sort": [{"followers": "desc"}, {"actor": "desc"}],
                "size": limit - len(hits),
                "_source": False,
            }
            if after is not None and rank == after[0]:
                body["search_after"] = after[1:]
            found = client.search(index, body)["hits"]
            hits += [ActorHit(int(hit["_id"]), [rank, *hit["sort"]]) for hit in found]
    return hits


def _groups(
    words: list[Fields], wanted: str, follows: Sequence[int]
) -> dict[int, Fields]:
    exact = {"term": {"handle": encode_value(Kind.AUTHOR, wanted)}}
    followed = {"terms": {"actor": [int(a) for a in follows[:_MAX_FOLLOWS]]}}
    groups: dict[int, Fields] = {
        _EXACT: {"filter": [*words, exact]},
        _FOLLOWED: {"filter": [*words, followed], "must_not": [exact]},
        _OTHER: {"filter": words, "must_not": [exact, followed]},
    }
    if not follows:
        del groups[_FOLLOWED]
    return groups
