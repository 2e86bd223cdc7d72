"""`bigworld did …`: a did:plc with the provider's services."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from network.server.listener import serving_in_thread
from plc.directory import create_app as create_plc
from protocol.identity.did_document import parse_did_document
from protocol.syntax import Did
from service.did_command import ROTATION_KEY
from service.operator_errors import ConfigError
from service.provider import SERVICES, audiences
from service.runtime.config import Config
from storage.postgres.pool import open_pool

Run = Callable[..., str]
OTHER = "did:plc:" + "a" * 24


@pytest.fixture(scope="module")
def plc_url(databases: Any) -> Iterator[str]:
    url = databases.make("plc")
    with open_pool(url, max=2) as pool, serving_in_thread(create_plc(pool)) as served:
        yield served
    databases.drop(url)


@pytest.fixture
def run(run: Run, plc_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs `bigworld did …` beside a directory."""
    monkeypatch.setenv("BIGWORLD_DEV_NETWORK", "true")
    monkeypatch.setenv("BIGWORLD_PLC_URL", plc_url)
    monkeypatch.setenv("BIGWORLD_PUBLIC_URL", "https://one.example.com")
    return lambda *words, **options: run("did", *words, **options)


def test_did_is_created_with_every_service_and_moves_with_the_provider(
    run: Run, plc_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    did = run("create").splitlines()[0]
    assert (tmp_path / "secrets" / ROTATION_KEY).stat().st_mode & 0o777 == 0o600

    def endpoints() -> dict[str, str]:
        document = httpx.get(f"{plc_url}/{did}").json()
        found = parse_did_document(document, Did(did))
        assert found.label_key is not None, "labels are verified with it"
        return {service.id: service.endpoint for service in found.services}

    names = {f"#{name}" for name in SERVICES}
    assert "#bsky_notif" in names
    assert endpoints() == dict.fromkeys(names, "https://one.example.com")
    assert "service_did is not set" in run("update", code=1)
    monkeypatch.setenv("BIGWORLD_SERVICE_DID", did)
    monkeypatch.setenv("BIGWORLD_PUBLIC_URL", "https://two.example.com")
    assert f"{did} names https://two.example.com" in run("update")
    assert endpoints() == dict.fromkeys(names, "https://two.example.com")
    assert f"service_did is {did} already" in run("create", code=1)


def test_did_needs_a_public_origin_and_a_directory_that_takes_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGWORLD_SERVICE_DID", OTHER)
    assert "404" in run("update", code=1)
    monkeypatch.delenv("BIGWORLD_PUBLIC_URL")
    monkeypatch.delenv("BIGWORLD_PLC_URL")
    monkeypatch.setenv("BIGWORLD_DEV_NETWORK", "false")
    assert "public_url is not set" in run("update", code=1)


def test_services_of_both_dids_are_audiences() -> None:
    config = Config.read(service_did=OTHER, public_url="https://x.example.com")
    assert config.provider_did == OTHER
    accepted = audiences(config)
    for did in (OTHER, "did:web:x.example.com"):
        assert {did, *(f"{did}#{name}" for name in SERVICES)} <= accepted
    with pytest.raises(ConfigError, match="is not a did:plc"):
        Config.read(service_did="did:web:other.example.com")
