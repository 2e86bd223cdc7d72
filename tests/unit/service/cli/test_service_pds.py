"""Settings of the embedded Personal Data Servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.cli.processes.pds import settings
from service.operator_errors import ConfigError
from service.runtime.config import Config

PUBLIC: dict[str, Any] = {
    "pds_public_url": "https://pds.example.com",
    "pds_handle_domains": ("example.com",),
}


def config(home: Path, **changes: Any) -> Config:
    return Config(home=home, **changes)


def test_demo_pds_needs_no_settings(tmp_path: Path) -> None:
    made = settings(config(tmp_path, dev_network=True), "b")
    assert made.public_url == "http://localhost:2583"
    assert made.domains == (".b.test",)
    assert made.invite_code is None
    assert made.plc_bypass_key is not None


@pytest.mark.parametrize("missing", list(PUBLIC))
def test_public_pds_requires_an_origin(tmp_path: Path, missing: str) -> None:
    changes = {name: value for name, value in PUBLIC.items() if name != missing}
    with pytest.raises(ConfigError, match=r"needs pds_public_url .*pds_handle"):
        settings(config(tmp_path, **changes), "a")


def test_public_network_has_one_pds(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run `pds a`"):
        settings(config(tmp_path, **PUBLIC), "b")


def test_pds_settings_come_from_the_configuration(tmp_path: Path) -> None:
    made = settings(config(tmp_path, **PUBLIC), "a")
    assert made.origin == "https://pds.example.com"
    assert made.service_did == "did:web:pds.example.com"
    assert made.domains == (".example.com",)
    assert (made.dev, made.default_indexer, made.indexer_urls) == (False, None, ())
    assert made.plc_url == "https://plc.directory"
    assert made.plc_bypass_key is None
    code = (tmp_path / "secrets" / "pds-a-invite").read_text().strip()
    assert code
    assert made.invite_code == code
    opened = settings(config(tmp_path, **PUBLIC, pds_invite_required=False), "a")
    assert opened.invite_code is None
    home = config(tmp_path, **PUBLIC, public_url="https://index.example.com")
    indexed = settings(home, "a")
    assert indexed.default_indexer == "did:web:index.example.com#bsky_appview"
    assert indexed.indexer_urls == ("https://index.example.com",)
