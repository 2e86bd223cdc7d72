"""Labels as they were signed, and reports, over XRPC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from appview_world import RefusedError
from labeler_world import LABELER, OTHER
from labelled_world import Scenario
from small_world import did

DAY = timedelta(days=1)


async def test_query_labels_answers_signed_labels(case: Scenario) -> None:
    sent = case.first.signed(case.post, "rude", exp=datetime(2148, 1, 1, tzinfo=UTC))
    await case.first.send(sent)
    await case.first.label(case.post, "gone", exp=datetime.now(UTC) - DAY)
    await case.first.label(case.post, "ended", neg=True)
    [label] = case.get("com.atproto.label.queryLabels", uriPatterns=[case.post])[
        "labels"
    ]
    assert label.pop("sig").keys() == {"$bytes"}
    assert label == {name: value for name, value in sent.items() if name != "sig"}


async def test_query_labels_reads_patterns_sources_and_pages(case: Scenario) -> None:
    query = "com.atproto.label.queryLabels"
    for val in ("a", "b", "c"):
        await case.first.label(case.account, val)
        await case.first.label(case.post, val)
        await case.second.label(case.post, val)
    await case.first.label(case.of("list"), "a")

    def found(*patterns: str, **params: Any) -> list[tuple[str, str]]:
        items = case.provider.pages(
            query, "labels", uriPatterns=[*patterns], limit=2, **params
        )
        return [(label["uri"], label["val"]) for label in items]

    assert sorted(found(case.account)) == [(case.account, v) for v in "abc"]
    assert len(found(case.post)) == 6
    assert len(found(case.post, sources=[OTHER])) == 3
    assert found(case.post, sources=[did("nobody")]) == []
    records = f"at://{case.account}/*"
    assert len(found(records)) == 7
    assert len(found(f"at://{case.account}/app.bsky.feed.post/*")) == 6
    assert len(found(records, case.post, case.account)) == 10
    assert len(found(case.account, records, sources=[LABELER])) == 7
    everything = found("*")
    assert len(everything) > 10
    assert set(found(case.account)) <= set(everything)
    assert found(did("unknown")) == found(f"at://{did('unknown')}/*") == []
    for wrong in (
        "",
        "did:*",
        "at://did:plc:a*",
        "https://x.example",
        f"{case.account}*",
    ):
        with pytest.raises(RefusedError) as refused:
            found(wrong)
        assert refused.value.name == "InvalidRequest"


async def test_fetch_labels_returns_what_is_newer(case: Scenario) -> None:
    moment = datetime(2031, 1, 1, tzinfo=UTC)
    for number in range(3):
        cts = moment + number * DAY
        await case.first.label(case.post, f"v{number}", cts=cts)
    since = round((moment + timedelta(hours=1)).timestamp() * 1000)
    found = case.get("com.atproto.temp.fetchLabels", since=since)["labels"]
    assert [label["val"] for label in found] == ["v1", "v2"]
    for odd in (-1, 2**63 - 1):
        case.get("com.atproto.temp.fetchLabels", since=odd)


def test_a_report_is_stored_with_its_reporter(case: Scenario) -> None:
    body = {
        "reasonType": "com.atproto.moderation.defs#reasonSpam",
        "reason": "look\u0000here",
        "subject": {
            "$type": "com.atproto.repo.strongRef",
            "uri": case.post,
            "cid": case.version,
        },
    }
    report = "com.atproto.moderation.createReport"
    with pytest.raises(RefusedError) as refused:
        case.provider.post(report, body)
    assert refused.value.status == 401
    case.provider.post(report, body, viewer="viewer")
    with psycopg.connect(case.provider.database) as conn:
        [row] = conn.execute(
            "SELECT reporter, subject, cid, reason FROM report WHERE subject = %s",
            (case.post,),
        ).fetchall()
    assert row == (did("viewer"), case.post, case.version, "look here")
    body["subject"] = {
        "$type": "com.atproto.admin.defs#repoRef",
        "did": case.account,
    }
    case.provider.post(report, body, viewer="viewer")
    body["subject"] = {"$type": "com.example.other"}
    with pytest.raises(RefusedError):
        case.provider.post(report, body, viewer="viewer")
