"""Chosen collections of repos, from hosts that give them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from crawler.repos.sparse import SparseUnavailableError, fetch_collections
from indexer.repos.repo_batch import FetchedRepo
from network.xrpc.client import XrpcClient
from protocol.identity.keys import PublicKey
from protocol.syntax.did import Did
from storage.repos.selections import Selection

_ASK_AGAIN_S: Final = 3_600.0
_MOST_HOSTS: Final = 10_000


class SparseHosts:
    """Remembers which hosts give no parts of repos. Use on one loop."""

    def __init__(
        self, most_records: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most_records = most_records
        self._clock = clock
        self._refused: dict[int, float] = {}

    async def fetch(
        self,
        client: XrpcClient,
        did: Did,
        key: PublicKey,
        host: int,
        selection: Selection,
    ) -> FetchedRepo | None:
        """All records of a selection, proven; None where the whole repo is to be
        fetched for it. Raises as `fetch_collections`."""
        if self._refused.get(host, 0.0) > self._clock():
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
                if len(self._refused) >= _MOST_HOSTS:
                    del self._refused[next(iter(self._refused))]
                self._refused[host] = self._clock() + _ASK_AGAIN_S
            return None
        return FetchedRepo(did, host, repo.head, repo.records, repo.drops, selection.id)
