"""More requests than connections: each gets an answer or a 503."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from appview_world import Provider

from network.server.listener import serving_in_thread
from service import provider as provider_module
from service.provider import create_app
from service.runtime.config import Config
from storage.postgres.pool import open_pool

SEARCH = "/xrpc/app.bsky.feed.searchPosts?q=quokka"
PROFILE = "/xrpc/app.bsky.actor.getProfile?actor=alice.test"


def ask(url: str) -> tuple[int, str | None]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.headers["retry-after"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["retry-after"]


def ask_at_once(url: str, times: int) -> list[tuple[int, str | None]]:
    answers: list[tuple[int, str | None]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(url))) for _ in range(times)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


class Starter:
    """Starter of providers whose pools are kept in `pools`."""

    def __init__(
        self, database: str, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._database = database
        self._home = home
        self._monkeypatch = monkeypatch
        self.pools: list[Any] = []

    def __call__(self, connections: int) -> AbstractContextManager[str]:
        def open_small(url: str, **options: Any) -> Any:
            if options["name"] != "provider":
                return open_pool(url, **options)
            pool = open_pool(url, **(options | {"min": 1, "max": connections}))
            self.pools.append(pool)
            return pool

        self._monkeypatch.setattr(provider_module, "open_pool", open_small)
        config = Config.read(home=self._home, dev_network=True)
        return serving_in_thread(create_app(config, self._database))


@pytest.fixture
def serve(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Starter:
    """Return a starter of the real provider with a pool of some connections."""
    return Starter(provider.database, tmp_path, monkeypatch)


def test_search_holds_one_connection_at_a_time(serve: Starter) -> None:
    with serve(1) as url:
        assert ask(url + SEARCH)[0] == 200
        assert ask(url + "/xrpc/app.bsky.feed.searchPosts?q=quokk&sort=top")[0] == 200
        assert ask(url + "/?q=quokka")[0] == 200


def test_parallel_searches_are_answered_or_get_503(serve: Starter) -> None:
    with serve(2) as url:
        answers: list[tuple[int, str | None]] = []
        searches = threading.Thread(
            target=lambda: answers.extend(ask_at_once(url + SEARCH, 32))
        )
        searches.start()
        beside = [ask(url + PROFILE) for _ in range(5)]
        searches.join()
        assert len(answers) == 32
        for status, retry_after in [*answers, *beside]:
            assert status == 200 or (status == 503 and retry_after)
        assert (200, None) in answers
        assert ask(url + PROFILE)[0] == 200


def test_profile_is_answered_beside_parallel_searches(serve: Starter) -> None:
    with serve(provider_module.THREADS) as url:
        searches = threading.Thread(target=ask_at_once, args=(url + SEARCH, 32))
        searches.start()
        assert {ask(url + PROFILE)[0] for _ in range(5)} == {200}
        searches.join()


def test_requests_that_wait_too_long_get_503(
    serve: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_module, "MAX_WAIT_S", 0.05)
    with serve(1) as url:
        assert ask(url + PROFILE)[0] == 200
        with serve.pools[-1].connection():
            for path in (PROFILE, SEARCH, "/", "/status"):
                assert ask(url + path) == (503, "1"), path
        assert ask(url + PROFILE)[0] == 200
