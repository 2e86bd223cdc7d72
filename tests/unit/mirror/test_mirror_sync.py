from __future__ import annotations

import psycopg
import pytest
from appview_world import Provider, RefusedError
from small_world import did

from protocol.data.cid import cid_to_text
from protocol.mst import Tree
from protocol.repo.car import read_car
from protocol.repo.commit import parse_commit, verify_commit_signature
from protocol.repo.whole_repo import RepoReader
from storage.records.record_rows import iter_repo

GET_RECORD = "com.atproto.repo.getRecord"
NOW_US = 4_000_000_000_000_000


def test_get_record_of_any_lexicon(provider: Provider) -> None:
    answer = provider.get(
        GET_RECORD,
        repo="alice.test",
        collection="org.example.garden.plant",
        rkey="fern",
    )
    assert answer["uri"] == provider.uris["strange"]
    assert answer["value"]["name"] == "fern"
    with pytest.raises(RefusedError) as refused:
        provider.get(
            GET_RECORD,
            repo="alice.test",
            collection="org.example.garden.plant",
            rkey="oak",
        )
    assert refused.value.name == "RecordNotFound"


def test_get_repo_is_verifiable(provider: Provider) -> None:
    body, _ = provider.ask("com.atproto.sync.getRepo", did=did("alice"))
    key = provider.world.keys["alice"].public
    reader = RepoReader(key, did("alice"), NOW_US)
    records = [*reader.feed(body)]
    head = reader.finish()
    written = provider.world.records["alice"]
    assert {f"{r.collection}/{r.rkey}" for r in records} == set(written)
    latest = provider.get("com.atproto.sync.getLatestCommit", did=did("alice"))
    assert latest["rev"] == head.rev
    status = provider.get("com.atproto.sync.getRepoStatus", did=did("alice"))
    assert status == {"did": did("alice"), "active": True, "rev": head.rev}


def test_get_record_proves_a_record(provider: Provider) -> None:
    for uri in (provider.uris["strange"], provider.uris["hello"]):
        collection, rkey = uri.split("/")[3:]
        body, _ = provider.ask(
            "com.atproto.sync.getRecord",
            did=did("alice"),
            collection=collection,
            rkey=rkey,
        )
        car = read_car(body)
        commit = parse_commit(car.blocks[car.root])
        verify_commit_signature(
            car.blocks[car.root], provider.world.keys["alice"].public
        )
        found = Tree(car.blocks.get, commit.data).get(f"{collection}/{rkey}".encode())
        assert found in car.blocks


@pytest.mark.parametrize(
    "path", ["org.example.garden.plant/oak", "a.b.c/x", "zz.zz.zz/~"]
)
def test_get_record_proves_an_absent_record_absent(
    provider: Provider, path: str
) -> None:
    collection, rkey = path.split("/")
    body, headers = provider.ask(
        "com.atproto.sync.getRecord", did=did("alice"), collection=collection, rkey=rkey
    )
    assert headers["content-type"] == "application/vnd.ipld.car"
    car = read_car(body)
    commit = verify_commit_signature(
        car.blocks[car.root], provider.world.keys["alice"].public
    )
    # The tree reads no node that is missing.
    assert Tree(car.blocks.get, commit.data).get(path.encode()) is None
    assert commit.data in car.blocks


def test_get_record_of_a_record_that_was_not_kept_is_refused(
    provider: Provider,
) -> None:
    collection, rkey = "org.example.garden.plant", "fern"
    path = f"{collection}/{rkey}".encode()
    with psycopg.connect(provider.database) as conn:
        (actor,) = conn.execute(
            "SELECT id FROM actor WHERE did = %s", (did("alice"),)
        ).fetchone() or (0,)
        items = [(key, cid) for key, cid, _ in iter_repo(conn, actor)]
        found = dict(items)[path]
        conn.rollback()
        kept = conn.execute(
            "DELETE FROM record r USING collection c WHERE r.actor = %s"
            " AND c.id = r.collection AND c.nsid = %s RETURNING r.*",
            (actor, collection),
        ).fetchall()
        conn.execute(
            "INSERT INTO dropped_record (actor, path_digest, path, cid, reason)"
            " VALUES (%s, sha256(%s), %s, %s, 'test')",
            (actor, path, path, found),
        )
    try:
        with pytest.raises(RefusedError) as refused:
            provider.ask(
                "com.atproto.sync.getRecord",
                did=did("alice"),
                collection=collection,
                rkey=rkey,
            )
        assert refused.value.name == "RecordNotFound"
    finally:
        with psycopg.connect(provider.database) as conn:
            conn.execute("DELETE FROM dropped_record WHERE actor = %s", (actor,))
            with conn.cursor() as cursor:
                places = ", ".join(["%s"] * len(kept[0]))
                cursor.executemany(f"INSERT INTO record VALUES ({places})", kept)


def test_get_repo_since_the_held_revision_is_only_the_commit(
    provider: Provider,
) -> None:
    latest = provider.get("com.atproto.sync.getLatestCommit", did=did("alice"))
    get_repo = "com.atproto.sync.getRepo"
    whole, _ = provider.ask(get_repo, did=did("alice"))
    for since in (latest["rev"], "jzzzzzzzzzzzz"):
        body, _ = provider.ask(get_repo, did=did("alice"), since=since)
        car = read_car(body)
        assert list(car.blocks) == [car.root]
        assert cid_to_text(car.root) == latest["cid"]
    for since in ("2222222222222", ""):
        assert provider.ask(get_repo, did=did("alice"), since=since)[0] == whole


def test_partial_repo_is_not_served_as_a_repo(provider: Provider) -> None:
    """Accounts with chosen collections only have no repo to serve."""
    name = did("alice")
    mark = "UPDATE repo SET selection = %s FROM actor WHERE id = actor AND did = %s"
    record = {"collection": "org.example.garden.plant", "rkey": "fern"}
    with psycopg.connect(provider.database) as conn:
        conn.execute(mark, (1, name))
    try:
        for method in ("getRepo", "getRecord", "getLatestCommit", "getRepoStatus"):
            more = record if method == "getRecord" else {}
            with pytest.raises(RefusedError) as refused:
                provider.ask(f"com.atproto.sync.{method}", did=name, **more)
            assert refused.value.name == "RepoNotFound"
        repos = provider.pages("com.atproto.sync.listRepos", "repos", limit=2)
        assert name not in {repo["did"] for repo in repos}
        assert provider.get(GET_RECORD, repo=name, **record)["value"]["name"] == "fern"
    finally:
        with psycopg.connect(provider.database) as conn:
            conn.execute(mark, (None, name))
    provider.ask("com.atproto.sync.getRepo", did=name)


def test_hidden_repos_are_refused_by_status(provider: Provider) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.ask("com.atproto.sync.getRepo", did=did("dan"))
    assert refused.value.name == "RepoDeactivated"
    with pytest.raises(RefusedError) as refused:
        provider.get("com.atproto.sync.getLatestCommit", did=did("nobody"))
    assert refused.value.name == "RepoNotFound"
    status = provider.get("com.atproto.sync.getRepoStatus", did=did("dan"))
    assert status == {"did": did("dan"), "active": False, "status": "deactivated"}


def test_list_repos_pages(provider: Provider) -> None:
    repos = provider.pages("com.atproto.sync.listRepos", "repos", limit=2)
    assert {repo["did"] for repo in repos} == {did(n) for n in provider.world.records}
    assert [r["status"] for r in repos if not r["active"]] == ["deactivated"]


def test_handles_resolve_in_the_index_or_the_network(provider: Provider) -> None:
    resolve = "com.atproto.identity.resolveHandle"
    assert provider.get(resolve, handle="alice.test") == {"did": did("alice")}
    assert provider.get(resolve, handle="outside.example.com") == {
        "did": did("outside")
    }
    own = provider.get(resolve, handle="provider.example.com")
    assert own == {"did": "did:web:provider.example.com"}
    # The second is cached by the network, for an account with another handle here.
    for handle in (
        "nobody.example.com",
        "renamed.example.com",
        "no handle",
        "alice.test.",
        "handle.invalid",
    ):
        with pytest.raises(RefusedError) as refused:
            provider.get(resolve, handle=handle)
        assert (refused.value.status, refused.value.name) == (400, "InvalidRequest")


def test_headers_carry_the_revision_of_the_viewer(provider: Provider) -> None:
    _, headers = provider.ask(
        "app.bsky.actor.getProfile", actor="bob.test", viewer="alice"
    )
    latest = provider.get("com.atproto.sync.getLatestCommit", did=did("alice"))
    assert headers["atproto-repo-rev"] == latest["rev"]
    labelers = {"atproto-accept-labelers": f"{did('carol')};redact, {did('bob')}"}
    _, headers = provider.ask(
        "app.bsky.actor.getProfile", actor="bob.test", headers=labelers
    )
    # Labelers that we do not subscribe to are left out.
    assert headers["atproto-content-labelers"] is None
    with pytest.raises(RefusedError):
        provider.ask(
            "app.bsky.actor.getProfile",
            actor="bob.test",
            headers={"atproto-accept-labelers": "not a did"},
        )
