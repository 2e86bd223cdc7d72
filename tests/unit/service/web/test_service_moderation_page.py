"""The operator's page: reports, takedowns and labels by forms, each logged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from network.server.listener import serving_in_thread
from protocol.data.cid import cid_to_text, raw_cid_for
from service.provider import create_app
from service.runtime.config import Config
from storage.private.reports import put_report

DID = "did:plc:z72i7hdynmk6r22z27h6tvur"
POST = f"at://{DID}/app.bsky.feed.post/3jzfcijpj2z2a"
PASSWORD = ("admin", "s:ecret")


@dataclass
class Site:
    """The provider, with the operator's password."""

    url: str
    database: str

    def show(self) -> str:
        reply = httpx.get(f"{self.url}/moderation", auth=PASSWORD, timeout=20)
        assert reply.status_code == 200
        return reply.text

    def decide(self, action: str, **fields: str) -> str:
        """Send a form; return the page that follows."""
        reply = httpx.post(
            f"{self.url}/moderation",
            data={"action": action, **fields},
            auth=PASSWORD,
            timeout=20,
            follow_redirects=True,
        )
        assert reply.status_code == 200
        return reply.text

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.database) as conn:
            return conn.execute(query).fetchall()


@pytest.fixture
def site(index_db: str, tmp_path: Path) -> Iterator[Site]:
    with psycopg.connect(index_db) as conn:
        conn.execute("INSERT INTO actor (did) VALUES (%s)", (DID,))
    config = Config.read(home=tmp_path, admin_password=PASSWORD[1])
    with serving_in_thread(create_app(config, index_db)) as url:
        yield Site(url, index_db)


def test_the_page_needs_the_password_and_its_own_form(site: Site) -> None:
    form = {"action": "takedown", "subject": DID, "reason": "x"}
    url = f"{site.url}/moderation"
    for auth in (None, ("admin", "wrong")):
        assert httpx.get(url, auth=auth, timeout=20).status_code == 401
        assert httpx.post(url, data=form, auth=auth, timeout=20).status_code == 401
    for headers in (
        {"Origin": "https://evil.example.com"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        reply = httpx.post(url, data=form, auth=PASSWORD, headers=headers, timeout=20)
        assert reply.status_code == 403
    large = httpx.post(url, content=b"a=" + b"x" * 30_000, auth=PASSWORD, timeout=20)
    assert large.status_code == 413
    assert site.rows("SELECT * FROM takedown") == []


def test_takedowns_are_made_shown_and_undone(site: Site) -> None:
    blob = f"{DID}/{cid_to_text(raw_cid_for(b'picture'))}"
    for subject in (DID, POST, blob):
        assert "is taken down" in site.decide("takedown", subject=subject, reason="law")
    assert site.rows("SELECT takedown FROM actor WHERE takedown IS NOT NULL") == [
        ("law",)
    ]
    page = site.show()
    assert page.count("<td>account</td>") == page.count("<td>blob</td>") == 1
    for subject in (DID, POST, blob):
        assert "is shown again" in site.decide("undo", subject=subject, reason="appeal")
    assert site.rows("SELECT * FROM takedown") == []
    log = site.rows("SELECT operator, action, reason FROM moderation_log")
    assert (
        log
        == [("admin page", "takedown", "law")] * 3
        + [("admin page", "undo takedown", "appeal")] * 3
    )


def test_labels_are_given_and_taken_back(site: Site) -> None:
    page = site.decide("label", subject=POST, value="spam", reason="it is")
    assert f"{POST} is labelled spam" in page
    assert site.rows("SELECT val, neg FROM label") == [("spam", False)]
    assert "Take back" in page
    site.decide("unlabel", subject=POST, value="spam")
    assert site.rows("SELECT val, neg FROM label") == [("spam", True)]
    assert "has not given" in site.decide("unlabel", subject=POST, value="spam")


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("takedown", {"subject": DID}),
        ("takedown", {"subject": "alice.test", "reason": "x"}),
        ("takedown", {"subject": "a\0b", "reason": "x"}),
        ("undo", {"subject": DID}),
        ("label", {"subject": POST, "value": "", "reason": "x"}),
        ("label", {"subject": "https://x.example", "value": "x", "reason": "x"}),
        ("close", {"value": "9" * 30}),
        ("close", {"value": "²"}),
    ],
)
def test_wrong_decisions_are_refused(
    site: Site, action: str, fields: dict[str, str]
) -> None:
    assert "Refused: " in site.decide(action, **fields)
    assert site.rows("SELECT * FROM moderation_log") == []


def test_reports_are_shown_as_text_and_closed(site: Site) -> None:
    with psycopg.connect(site.database) as conn:
        report = put_report(
            conn,
            DID,
            subject=POST,
            cid="",
            reason_type="com.atproto.moderation.defs#reasonSpam",
            reason="<script>alert(1)</script>",
        )
    page = site.show()
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page
    page = site.decide("close", value=str(report.id), reason="seen")
    assert f"report {report.id} is closed" in page
    assert "reasonSpam" not in page
