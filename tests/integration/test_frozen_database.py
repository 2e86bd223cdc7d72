"""The provider with a PostgreSQL that does not respond."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil

from network.server.listener import serving_in_thread
from service.provider import create_app
from service.runtime.config import Config
from service.runtime.embedded import EmbeddedPostgres
from storage import migrate

PROFILE = "/xrpc/app.bsky.actor.getProfile?actor=a.test"


def ask(url: str) -> tuple[int, str]:
    try:
        with urlopen(url, timeout=40) as answer:
            return int(answer.status), ""
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read())["message"]


@contextmanager
def frozen(server: EmbeddedPostgres) -> Iterator[None]:
    pid = server._recorded_pid()
    assert pid is not None
    head = psutil.Process(pid)
    processes = [head, *head.children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def test_provider_reports_a_frozen_database(
    own_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    own_server.ensure_database("frozen")
    url = own_server.url("frozen")
    migrate.upgrade(url, "index")
    migrate.upgrade(url, "private")
    with serving_in_thread(create_app(Config.read(home=tmp_path), url)) as site:
        assert ask(f"{site}/_ready") == (200, "")
        assert ask(site + PROFILE)[0] == 400
        with frozen(own_server):
            time.sleep(1.1)  # the last result is kept for a second
            assert ask(f"{site}/_ready") == (503, "the database does not answer")
            assert ask(f"{site}/xrpc/_health") == (200, "")
        for _ in range(50):
            status, _ = ask(f"{site}/_ready")
            if status == 200:
                break
            time.sleep(0.2)
        assert status == 200
        assert ask(site + PROFILE)[0] == 400
