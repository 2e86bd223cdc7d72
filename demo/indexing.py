"""Progress of the index with the repos of the demo network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import psycopg

from network.http.client import Fetcher
from network.xrpc.client import XrpcClient

_LIST_REPOS: Final = "com.atproto.sync.listRepos"
_PAGE: Final = 1_000


async def newest_revs(fetcher: Fetcher, servers: Sequence[str]) -> dict[str, str]:
    """Return the revs of all active repos by DID, as the servers list them."""
    revs: dict[str, str] = {}
    for server in servers:
        client = XrpcClient(fetcher, server)
        cursor: str | None = None
        while True:
            params = {"limit": _PAGE, "cursor": cursor}
            page = await client.query(_LIST_REPOS, params)
            for repo in page["repos"]:
                if repo.get("active", True):
                    revs[repo["did"]] = repo["rev"]
            cursor = page.get("cursor")
            if not cursor:
                break
    return revs


def count_indexed(index_url: str, revs: Mapping[str, str]) -> int:
    """Count the repos that are indexed and searchable at these revs or later."""
    query = """
        SELECT count(*)
        FROM unnest(%s::text[], %s::text[]) AS wanted(did, rev)
        JOIN actor USING (did)
        JOIN repo ON repo.actor = actor.id
        WHERE repo.state = 'synchronized' AND repo.rev >= wanted.rev COLLATE "C"
          AND NOT EXISTS (SELECT FROM search_outbox o WHERE o.actor = actor.id)
    """
    with psycopg.connect(index_url) as conn:
        row = conn.execute(query, (list(revs), list(revs.values()))).fetchone()
    assert row is not None
    return int(row[0])
