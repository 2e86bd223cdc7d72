from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from appview_world import Provider, RefusedError, serve_world
from small_world import did

from appview.app import ClientSettings
from service.runtime.client_settings import live_domains, read_age_assurance

AGE = "app.bsky.ageassurance."
UNSPECCED = "app.bsky.unspecced."
REGION = {
    "countryCode": "GB",
    "minAccessAge": 13,
    "rules": [
        {
            "$type": "app.bsky.ageassurance.defs#configRegionRuleDefault",
            "access": "safe",
        }
    ],
}
BEGIN = {"email": "a@example.com", "language": "en", "countryCode": "GB"}


@pytest.fixture(scope="module")
def configured(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    settings = ClientSettings(
        age_assurance={"regions": [REGION]},
        live_now={did("alice"): ["twitch.tv", "youtube.com"]},
        check_email_confirmed=True,
    )
    with serve_world(url, client_settings=settings) as served:
        yield served
    databases.drop(url)


def test_no_region_needs_age_assurance_by_default(provider: Provider) -> None:
    assert provider.get(f"{AGE}getConfig") == {"regions": []}
    config = provider.get(f"{UNSPECCED}getConfig")
    assert config == {"checkEmailConfirmed": False, "topicsEnabled": True}


def test_configured_settings_are_served(configured: Provider) -> None:
    assert configured.get(f"{AGE}getConfig") == {"regions": [REGION]}
    config = configured.get(f"{UNSPECCED}getConfig")
    assert config["checkEmailConfirmed"] is True
    assert config["liveNow"] == [
        {"did": did("alice"), "domains": ["twitch.tv", "youtube.com"]}
    ]


def test_age_of_every_account_is_unknown(provider: Provider) -> None:
    answer = provider.get(f"{AGE}getState", countryCode="GB", viewer="alice")
    assert answer["state"] == {"status": "unknown", "access": "unknown"}
    profile = provider.get("app.bsky.actor.getProfile", actor=did("alice"))
    assert answer["metadata"] == {"accountCreatedAt": profile["createdAt"]}
    for viewer in ("eve", "unheardof"):
        other = provider.get(f"{AGE}getState", countryCode="GB", viewer=viewer)
        assert other["metadata"] == {}
    state = provider.get(f"{UNSPECCED}getAgeAssuranceState", viewer="alice")
    assert state == {"status": "unknown"}


@pytest.mark.parametrize("nsid", [f"{AGE}begin", f"{UNSPECCED}initAgeAssurance"])
def test_age_assurance_is_refused_by_name(configured: Provider, nsid: str) -> None:
    with pytest.raises(RefusedError) as refused:
        configured.post(nsid, BEGIN, viewer="alice")
    assert (refused.value.status, refused.value.name) == (501, "MethodNotImplemented")
    with pytest.raises(RefusedError) as refused:
        configured.post(nsid, BEGIN)
    assert (refused.value.status, refused.value.name) == (401, "AuthMissing")


@pytest.mark.parametrize("nsid", [f"{AGE}getState", f"{UNSPECCED}getAgeAssuranceState"])
def test_state_of_an_age_requires_a_viewer(provider: Provider, nsid: str) -> None:
    params = {"countryCode": "GB"} if nsid.startswith(AGE) else {}
    with pytest.raises(RefusedError) as refused:
        provider.get(nsid, **params)
    assert refused.value.status == 401


def test_file_of_age_assurance_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "regions.json"
    path.write_text(json.dumps({"regions": [REGION]}))
    assert read_age_assurance(path) == {"regions": [REGION]}
    for text in ('{"regions": [{}]}', "[]", "{", ""):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"age_assurance: .*regions\.json"):
            read_age_assurance(path)


def test_domains_of_live_accounts() -> None:
    pairs = ("did:plc:x=a.example", "did:plc:y=b.example", "did:plc:x=c.example")
    assert live_domains(pairs) == {
        "did:plc:x": ["a.example", "c.example"],
        "did:plc:y": ["b.example"],
    }
    for pair in ("x=a.example", "did:plc:x=", "did:plc:x=a b"):
        with pytest.raises(ValueError, match="is not DID=domain"):
            live_domains((pair,))
