"""Hosts that send repos slowly delay only themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from crawl_author import post
from crawl_world import CrawlWorld, FakeHost, wait_until
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

SLOW_HOSTS = 5


class DrippingHost(FakeHost):
    """Starts to send a repo, and never ends."""

    async def _get_repo(self, request: Request) -> Response:
        did = request.query_params["did"]
        self.repo_requests.append(did)

        async def drip() -> AsyncIterator[bytes]:
            for byte in self.authors[did].repo():
                yield bytes([byte])
                await asyncio.sleep(0.1)

        return StreamingResponse(drip(), media_type="application/vnd.ipld.car")


@pytest.fixture
def world(index_db: str) -> Iterator[CrawlWorld]:
    opened = CrawlWorld(index_db)
    yield opened
    opened.close()


def test_slow_hosts_do_not_delay_other_fetches(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = []
    for number in range(SLOW_HOSTS):
        with monkeypatch.context() as patch:
            patch.setattr("crawl_world.FakeHost", DrippingHost)
            slow.append(world.add_host())
        for n in range(3):
            author = world.add_author(100 + 10 * number + n, slow[-1])
            author.write([("create", "app.bsky.feed.post/a", post("x" * 5_000))])
    with world.crawling(
        backfills_at_once=4, backfills_per_host=2, backfill_patience=1.0
    ):
        # The slow hosts take all free slots.
        wait_until(lambda: sum(len(host.repo_requests) for host in slow) >= 4, 30)
        good = world.add_host()
        authors = [world.add_author(n, good) for n in range(5)]
        for author in authors:
            author.write([("create", "app.bsky.feed.post/a", post("quick"))])
        wait_until(lambda: world.follows(*authors), 40, "they are kept waiting")
    errors = {row[0] for row in world.query("SELECT error FROM repo")}
    assert "too slow while others wait" in errors
