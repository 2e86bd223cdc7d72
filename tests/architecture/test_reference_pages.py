"""The generated reference pages, compared with the code."""

from __future__ import annotations

import pytest
from metric_sources import find_metrics
from reference_pages import FOLDER, PAGES
from schema_sources import find_tables

from service.runtime.config import Config

STALE = "docs/reference is out of date: run `make docs` and commit the result"


@pytest.mark.parametrize("name", PAGES)
def test_reference_page_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text() == PAGES[name](), STALE


def test_metrics_are_found_in_every_form() -> None:
    found = {metric.name: metric for metric in find_metrics()}
    assert found["bigworld_requests_total"].labels == ("method", "status")
    assert found["bigworld_drops_total"].labels == ("reason",)
    assert found["bigworld_alarms"].labels == ("kind",)
    assert found["bigworld_frames_total"].kind == "counter"
    assert "bigworld_search_outbox" in found


def test_tables_are_found_with_their_notes() -> None:
    tables = {table.name: table for table in find_tables()["index"]}
    assert {"actor", "repo", "link", "search_document_0"} <= tables.keys()
    columns = {column.name: column for column in tables["repo"].columns}
    assert "first import" in columns["rev"].note
    assert columns["rev"].nullable


def test_settings_describe_themselves() -> None:
    for name, field in Config.model_fields.items():
        assert field.description, name
