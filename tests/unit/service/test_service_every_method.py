"""Every method that the provider registers, and those that it does not have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appview.server import find_methods
from network.server.listener import serving_in_thread
from service.provider import create_app
from service.runtime.config import Config

OPEN_PROCEDURES = {"com.atproto.sync.requestCrawl"}
"""Procedures that anyone may call."""
MIRRORED = {
    "com.atproto.identity.refreshIdentity",
    "com.atproto.identity.resolveDid",
    "com.atproto.identity.resolveHandle",
    "com.atproto.identity.resolveIdentity",
    "com.atproto.lexicon.resolveLexicon",
    "com.atproto.repo.describeRepo",
    "com.atproto.repo.getRecord",
    "com.atproto.repo.listRecords",
    "com.atproto.sync.getBlob",
    "com.atproto.sync.getBlocks",
    "com.atproto.sync.getHostStatus",
    "com.atproto.sync.getLatestCommit",
    "com.atproto.sync.getRecord",
    "com.atproto.sync.getRepo",
    "com.atproto.sync.getRepoStatus",
    "com.atproto.sync.listBlobs",
    "com.atproto.sync.listHosts",
    "com.atproto.sync.listRepos",
    "com.atproto.sync.listReposByCollection",
    "com.atproto.sync.requestCrawl",
}
"""Methods of a mirror and relay, besides subscribeRepos."""
ABSENT = [
    "app.bsky.contact.getMatches",
    "app.bsky.video.getUploadLimits",
    "chat.bsky.convo.listConvos",
    "com.atproto.server.createSession",
    "dev.example.nothing",
    "nothing",
]


@pytest.fixture(scope="module")
def url(databases: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home: Path = tmp_path_factory.mktemp("home")
    database = databases.make("index")
    with serving_in_thread(create_app(Config.read(home=home), database)) as url:
        yield url
    databases.drop(database)


@pytest.fixture(scope="module")
def verbs(url: str) -> dict[str, str]:
    """Return the verb of each registered method."""
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    return {
        path.removeprefix("/xrpc/"): next(iter(operations)).upper()
        for path, operations in paths.items()
        if path.startswith("/xrpc/") and "." in path
    }


def test_mirror_and_all_files_of_methods_are_registered(verbs: dict[str, str]) -> None:
    assert verbs.keys() >= MIRRORED
    assert {nsid for nsid, _ in find_methods()} <= verbs.keys()


def test_procedures_refuse_callers_without_a_token(
    url: str, verbs: dict[str, str]
) -> None:
    procedures = [nsid for nsid, verb in verbs.items() if verb == "POST"]
    assert "app.bsky.graph.muteActor" in procedures
    for nsid in {*procedures} - OPEN_PROCEDURES:
        answer = httpx.post(f"{url}/xrpc/{nsid}", json={})
        assert answer.status_code == 401, nsid
        assert answer.json()["error"] in ("AuthMissing", "AuthenticationRequired"), nsid
        assert httpx.get(f"{url}/xrpc/{nsid}").status_code in (400, 405), nsid


def test_queries_without_parameters_answer_by_name(
    url: str, verbs: dict[str, str]
) -> None:
    for nsid, verb in verbs.items():
        if verb == "GET":
            answer = httpx.get(f"{url}/xrpc/{nsid}", timeout=20)
            assert answer.status_code in (200, 400, 401, 426), (nsid, answer.text)
            if answer.status_code != 200:
                assert answer.json()["error"], nsid


@pytest.mark.parametrize("nsid", ABSENT)
def test_unknown_methods_are_not_implemented(url: str, nsid: str) -> None:
    for answer in (httpx.get(f"{url}/xrpc/{nsid}"), httpx.post(f"{url}/xrpc/{nsid}")):
        assert answer.status_code == 501
        assert answer.json()["error"] == "MethodNotImplemented"
