"""Fetches of chosen collections, from hosts that support it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from cachetools import TTLCache

from crawler.repos.sparse import SparseUnavailableError, fetch_collections
from indexer.repos.repo_batch import FetchedRepo
from network.xrpc.client import XrpcClient
from protocol.identity.keys import PublicKey
from protocol.syntax.did import Did
from storage.repos.selections import Selection

_ASK_AGAIN_S: Final = 3_600.0
_MOST_HOSTS: Final = 10_000


class SparseHosts:
    """Remembers the hosts that do not support it. Use on one loop."""

    def __init__(
        self, most_records: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most_records = most_records
        # Hosts without such requests, each for a while.
        self._refused: TTLCache[int, None] = TTLCache(_MOST_HOSTS, _ASK_AGAIN_S, clock)

    async def fetch(
        self,
        client: XrpcClient,
        did: Did,
        key: PublicKey,
        host: int,
        selection: Selection,
    ) -> FetchedRepo | None:
        """Return all records of a selection, proven; None if the whole repo must be
        fetched. Raises as `fetch_collections`."""
        if host in self._refused:
            return None
        try:
            repo = await fetch_collections(
                client,
                did,
                key,
                selection.collections,
                time.time_ns() // 1_000,
                most_records=self._most_records,
            )
        except SparseUnavailableError as error:
            if error.of_all:
                self._refused[host] = None
            return None
        return FetchedRepo(did, host, repo.head, repo.records, repo.drops, selection.id)
