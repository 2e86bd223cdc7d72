"""Published web components in Chromium: they read posts, feeds and threads from us.

The browser asks the provider of a demo network from a page of another origin, so CORS
is exercised too. Needs `tests/acceptance/components/install` and Chromium; see
docs/explanation/web-clients.md.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from test_whole_network import ROOT, call, four_ports, login

FOLDER = Path(__file__).parent / "components"
NODE = shutil.which("node")
BROWSER = shutil.which(os.environ.get("CHROMIUM", "chromium"))
PATIENCE_S = 60.0
PAGE = "http://garden.example/quokka"
TEXT = f"A quokka in the garden, see {PAGE}"
REPLY = "It ate my quokka biscuits"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (FOLDER / "node_modules").is_dir(),
        reason="the web components are not installed: "
        "run tests/acceptance/components/install",
    ),
    pytest.mark.skipif(NODE is None, reason="needs node"),
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium: install it"),
]


@dataclass
class Shown:
    """The components' texts, and what the browser asked for and complained of."""

    texts: dict[str, str]
    requests: list[dict[str, Any]]
    errors: list[str]
    provider: str


@pytest.fixture(scope="module")
def endpoints(short_folder: Path) -> Iterator[dict[str, Any]]:
    """Run the small demo network; return its addresses and accounts."""
    home = short_folder / "components"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BIGWORLD_")}
    settings = {"BIGWORLD_HOME": str(home), "BIGWORLD_PORT_BASE": str(four_ports())}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("small_network.py")), "up"],
        cwd=ROOT,
        env=kept | settings,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("ready"):
            break
    else:
        raise AssertionError("".join(lines))
    try:
        yield json.loads((home / "endpoints.json").read_text())
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def write(account: dict[str, str], collection: str, **fields: Any) -> dict[str, str]:
    """Create a record; return the reference to it."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    record = {"$type": collection, "createdAt": created, **fields}
    body = {"repo": account["did"], "collection": collection, "record": record}
    url = f"{account['pds']}/xrpc/com.atproto.repo.createRecord"
    made = call(url, login(account), body=body)
    return {"uri": made["uri"], "cid": made["cid"]}


def link_facet(text: str, link: str) -> dict[str, Any]:
    start = text.index(link)
    feature = {"$type": "app.bsky.richtext.facet#link", "uri": link}
    index = {"byteStart": start, "byteEnd": start + len(link)}
    return {"index": index, "features": [feature]}


@pytest.fixture(scope="module")
def shown(endpoints: dict[str, Any]) -> Shown:
    """Write a thread and open the components on it."""
    alice, bob, carla, _ = endpoints["accounts"]
    post = write(
        alice, "app.bsky.feed.post", text=TEXT, facets=[link_facet(TEXT, PAGE)]
    )
    ends = {"root": post, "parent": post}
    write(bob, "app.bsky.feed.post", text=REPLY, reply=ends)
    write(bob, "app.bsky.feed.like", subject=post)
    write(carla, "app.bsky.feed.like", subject=post)
    write(carla, "app.bsky.feed.repost", subject=post)
    provider = endpoints["provider"]["url"]
    feeds = call(f"{provider}/xrpc/app.bsky.unspecced.getPopularFeedGenerators")
    latest = next(f["uri"] for f in feeds["feeds"] if f["uri"].endswith("/latest"))
    wait_for_counts(provider, post["uri"])
    found = show(
        {
            "service": provider,
            "uri": post["uri"],
            "link": f"https://bsky.app/profile/{alice['handle']}/post/"
            + post["uri"].rpartition("/")[2],
            "handle": alice["handle"],
            "feed": latest,
            "words": "quokka",
            "page": PAGE,
        }
    )
    return Shown(**found, provider=provider)


def wait_for_counts(provider: str, uri: str) -> None:
    """Wait until the provider has the replies, likes and reposts of the post."""
    deadline = time.monotonic() + PATIENCE_S
    wanted = {"replyCount": 1, "likeCount": 2, "repostCount": 1}
    counts: dict[str, int] = {}
    while counts != wanted:
        assert time.monotonic() < deadline, counts
        time.sleep(0.1)
        posts = call(f"{provider}/xrpc/app.bsky.feed.getPosts", uris=uri)["posts"]
        counts = {name: posts[0][name] for name in wanted} if posts else {}


def show(values: dict[str, str]) -> dict[str, Any]:
    """Open the components in Chromium with these values."""
    assert NODE is not None
    assert BROWSER is not None
    done = subprocess.run(
        [NODE, str(FOLDER / "show.mjs"), json.dumps(values)],
        env={**os.environ, "CHROMIUM": BROWSER},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_browser_requests_succeed(shown: Shown) -> None:
    failed = [r for r in shown.requests if r["status"] not in (200, 204)]
    assert failed == []
    assert shown.errors == []
    asked = {r["url"].split("?")[0].rpartition("/")[2] for r in shown.requests}
    assert asked >= {
        "app.bsky.feed.getPostThread",
        "app.bsky.feed.getAuthorFeed",
        "app.bsky.feed.getFeed",
        "app.bsky.feed.searchPosts",
    }


def test_post_component_shows_text_author_and_counts(shown: Shown) -> None:
    text = shown.texts["post"]
    assert text.startswith("Alice @alice.a.test")
    assert "A quokka in the garden" in text
    # Its footer has likes and reposts without words, then the number of replies.
    assert "2 1 Read 1 reply" in text


@pytest.mark.parametrize("part", ["comments", "comments-by-link"])
def test_comments_component_shows_counts_and_replies(shown: Shown, part: str) -> None:
    text = shown.texts[part]
    assert text.startswith("2 likes 1 reposts 1 replies")
    assert "Bob @ bob.b.test" in text
    assert REPLY in text


@pytest.mark.parametrize("part", ["author-feed", "feed", "search"])
def test_feed_component_shows_posts(shown: Shown, part: str) -> None:
    assert "@ alice.a.test" in shown.texts[part]
    assert "A quokka in the garden" in shown.texts[part]
