"""The compose files: limits, secrets that must be set, nothing published by mistake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ("docker-compose.yml", "docker-compose.meilisearch.yml")


def services(name: str) -> dict[str, str]:
    """Return the lines of each service, with those of the anchors it merges."""
    text = (ROOT / name).read_text()
    anchors = dict(re.findall(r"(?ms)^x-[\w-]+: &([\w-]+)\n(.*?)(?=^\S)", text))
    body = text.partition("\nservices:\n")[2].partition("\nvolumes:\n")[0]
    found = dict(re.findall(r"(?ms)^  ([\w-]+):\n(.*?)(?=^  \w|\Z)", body))
    return {
        service: lines
        + "".join(anchors[name] for name in re.findall(r"<<: \*([\w-]+)", lines))
        for service, lines in found.items()
    }


@pytest.mark.parametrize("name", FILES)
def test_every_service_has_a_memory_limit_and_a_health_check(name: str) -> None:
    found = services(name)
    assert found
    for service, lines in found.items():
        assert "mem_limit:" in lines, service
        assert "healthcheck:" in lines, service


@pytest.mark.parametrize("name", FILES)
def test_secrets_have_no_defaults(name: str) -> None:
    text = (ROOT / name).read_text()
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|_KEY))([^}]*)\}", text)
    assert secrets
    assert [secret for secret, rest in secrets if not rest.startswith(":?")] == []


def test_provider_is_asked_whether_it_is_ready_and_metrics_stay_inside() -> None:
    found = services("docker-compose.yml")
    assert "2580/_ready" in found["serve"]
    published = re.findall(r'(?m)^      - "([\d.:]+)"$', "".join(found.values()))
    assert published == ["127.0.0.1:2580:2580"]
