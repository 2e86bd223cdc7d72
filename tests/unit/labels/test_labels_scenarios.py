"""Labels of two labelers, from their streams to views, search and feeds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from appview_world import RefusedError
from labeler_world import LABELER, OTHER, START, resign
from labelled_world import POSTS, Scenario
from small_world import did

from protocol.data.cid import cid_for, cid_from_text
from protocol.identity.keys import PrivateKey

DAY = timedelta(days=1)
REDACTED = f"{LABELER};redact"
EVERYWHERE = {
    "posts",
    "search",
    "search v2",
    "skeleton",
    "author feed",
    "following",
    "latest",
    "thread",
    "parent",
    "quote",
    "records",
}


# Order and time.


async def test_a_label_is_shown_with_its_source(case: Scenario) -> None:
    await case.first.label(case.post, "rude")
    [label] = [x for x in case.view()["labels"] if x["src"] == LABELER]
    assert (label["uri"], label["val"]) == (case.post, "rude")
    assert "cid" not in label


async def test_a_negation_ends_a_label(case: Scenario) -> None:
    await case.first.label(case.post, "rude")
    await case.first.label(case.post, "rude", neg=True)
    assert case.vals() == []


async def test_a_negation_before_its_label_wins(case: Scenario) -> None:
    await case.first.label(case.post, "rude", neg=True, cts=START + DAY)
    await case.first.label(case.post, "rude", cts=START)
    assert case.vals() == []


async def test_a_newer_label_comes_back_after_a_negation(case: Scenario) -> None:
    await case.first.label(case.post, "rude", neg=True, cts=START)
    await case.first.label(case.post, "rude", cts=START + DAY)
    assert case.vals() == ["rude"]


async def test_equal_times_let_the_negation_win_in_both_orders(case: Scenario) -> None:
    await case.first.label(case.post, "one", cts=START)
    await case.first.label(case.post, "one", cts=START, neg=True)
    await case.first.label(case.post, "two", cts=START, neg=True)
    await case.first.label(case.post, "two", cts=START)
    assert case.vals() == []


async def test_an_expired_label_is_not_shown(case: Scenario) -> None:
    past = datetime.now(UTC) - DAY
    await case.first.label(case.post, "rude", exp=past)
    await case.first.label(case.post, "!takedown", exp=past)
    assert case.vals() == []
    assert case.places() == EVERYWHERE


async def test_a_label_that_expires_later_is_shown_with_the_time(
    case: Scenario,
) -> None:
    exp = datetime(2148, 1, 1, tzinfo=UTC)
    await case.first.label(case.post, "rude", exp=exp)
    [label] = [x for x in case.view()["labels"] if x["src"] == LABELER]
    assert label["exp"] == "2148-01-01T00:00:00.000Z"


async def test_an_older_label_does_not_prolong_a_newer_one(case: Scenario) -> None:
    past = datetime.now(UTC) - DAY
    await case.first.label(case.post, "rude", cts=START + DAY, exp=past)
    await case.first.label(case.post, "rude", cts=START)
    assert case.vals() == []


async def test_a_replayed_message_changes_nothing(case: Scenario) -> None:
    label = case.first.signed(case.post, "rude")
    frame = case.first.frame(label)
    await case.first.stream.take([frame])
    await case.first.label(case.post, "rude", neg=True)
    await case.first.stream.take([frame])
    assert case.vals() == []


# Forgeries.


async def test_a_changed_label_is_not_believed(case: Scenario) -> None:
    good = case.first.signed(case.post, "nice")
    await case.first.send(good | {"val": "rude"})
    await case.first.send(good | {"uri": case.account})
    assert case.vals() == []


async def test_a_labeler_cannot_speak_for_another(case: Scenario) -> None:
    label = case.first.signed(case.post, "rude")
    await case.first.send(resign(label, case.first.key, src=OTHER))
    await case.second.send(label)
    assert case.vals() == []


async def test_labels_of_a_rotated_key_are_believed(case: Scenario) -> None:
    await case.second.label(case.post, "before")
    case.second.key = PrivateKey.generate("p256")
    case.second.keys.now[OTHER] = case.second.key
    await case.second.label(case.post, "after")
    assert sorted(case.vals()) == ["after", "before"]


async def test_a_value_that_is_too_long_is_dropped(case: Scenario) -> None:
    label = case.first.signed(case.post, "x")
    await case.first.send(resign(label, case.first.key, val="ü" * 65))
    await case.first.send(resign(label, case.first.key, val="ü" * 64))
    assert case.vals() == ["ü" * 64]


# Versions.


async def test_a_label_of_this_version_is_shown(case: Scenario) -> None:
    await case.first.label(case.post, "rude", cid=cid_from_text(case.version))
    [label] = [x for x in case.view()["labels"] if x["src"] == LABELER]
    assert label["cid"] == case.version


async def test_a_label_of_another_version_is_not_shown(case: Scenario) -> None:
    await case.first.label(case.post, "rude", cid=cid_for(b"other"))
    await case.first.label(case.post, "!takedown", cid=cid_for(b"other"))
    assert case.vals() == []
    assert case.places(REDACTED) == EVERYWHERE


async def test_a_negation_of_one_version_leaves_the_general_label(
    case: Scenario,
) -> None:
    await case.first.label(case.post, "rude")
    version = cid_from_text(case.version)
    await case.first.label(case.post, "rude", cid=version, neg=True)
    assert case.vals() == ["rude"]


async def test_an_account_has_no_versions(case: Scenario) -> None:
    await case.first.label(case.account, "rude", cid=cid_from_text(case.version))
    profile = case.get("app.bsky.actor.getProfile", actor=case.account)
    assert {label["src"] for label in profile["labels"]} == {case.account}


# Self labels, accounts, other records.


async def test_self_labels_are_shown_for_every_header(case: Scenario) -> None:
    for accept in (None, "", did("nobody"), LABELER):
        labels = case.view(accept)["labels"]
        assert [(x["src"], x["val"]) for x in labels] == [(case.account, "spoiler")]


async def test_account_labels_are_on_the_author_of_a_post(case: Scenario) -> None:
    await case.first.label(case.account, "rude")
    view = case.view()
    assert case.vals() == []
    found = {(x["src"], x["val"], x["uri"]) for x in view["author"]["labels"]}
    assert (LABELER, "rude", case.account) in found


async def test_labels_of_the_profile_record_are_on_the_account(case: Scenario) -> None:
    uri = f"at://{case.account}/app.bsky.actor.profile/self"
    await case.first.label(uri, "avatar")
    profile = case.get("app.bsky.actor.getProfile", actor=case.account)
    assert ("avatar", uri) in {(x["val"], x["uri"]) for x in profile["labels"]}


async def test_labels_of_lists_are_shown_where_they_are_quoted(case: Scenario) -> None:
    await case.first.label(case.of("list"), "rude")
    [post] = case.get(POSTS, uris=case.of("list quote"))["posts"]
    assert [label["val"] for label in post["embed"]["record"]["labels"]] == ["rude"]
    await case.first.label(case.of("list"), "!takedown")
    [post] = case.get(POSTS, uris=case.of("list quote"))["posts"]
    assert post["embed"]["record"]["notFound"] is True


async def test_labels_before_their_record_are_kept(case: Scenario) -> None:
    uri = f"at://{did('notyet')}/app.bsky.feed.post/3jzfcijpj2z2a"
    await case.first.label(uri, "rude")
    found = case.get("com.atproto.label.queryLabels", uriPatterns=[uri])["labels"]
    assert [(x["uri"], x["val"]) for x in found] == [(uri, "rude")]


# Labelers of a request.


async def test_labels_of_other_labelers_than_accepted_are_left_out(
    case: Scenario,
) -> None:
    await case.first.label(case.post, "rude")
    await case.second.label(case.post, "kind")
    assert sorted(case.vals()) == ["kind", "rude"]
    assert case.vals(LABELER) == ["rude"]
    assert case.vals(f"{OTHER}, {LABELER}") == case.vals(f"{LABELER}, {OTHER}")
    assert case.vals(OTHER) == ["kind"]
    assert case.vals("") == []


async def test_two_labelers_that_disagree_do_not_change_each_other(
    case: Scenario,
) -> None:
    await case.first.label(case.post, "rude")
    await case.second.label(case.post, "rude", neg=True, cts=START + 99 * DAY)
    assert case.vals() == ["rude"]
    assert case.vals(OTHER) == []


async def test_replies_name_the_labelers_that_were_applied(case: Scenario) -> None:
    assert case.header() == f"{LABELER};redact, {OTHER};redact"
    assert case.header(f"{OTHER}, {did('nobody')};redact") == OTHER
    assert case.header(f"{OTHER};redact") == f"{OTHER};redact"
    assert case.header("") is None
    assert case.header(did("nobody")) is None
    with pytest.raises(RefusedError) as refused:
        case.header("did:plc:x;;")
    assert (refused.value.status, refused.value.name) == (400, "InvalidRequest")


# Effects.


@pytest.mark.parametrize("val", ["!takedown", "!suspend"])
async def test_redacted_posts_are_hidden_everywhere(case: Scenario, val: str) -> None:
    assert case.places(REDACTED) == EVERYWHERE
    await case.first.label(case.post, val)
    assert case.places(REDACTED) == set()
    # The default redacts, a client that does not ask for it gets the label.
    assert case.places() == set()
    assert case.places(LABELER) == EVERYWHERE
    assert case.vals(LABELER) == [val]
    assert case.places(f"{OTHER};redact") == EVERYWHERE
    assert case.places(f"{LABELER};redact=?0") == EVERYWHERE


@pytest.mark.parametrize("val", ["!takedown", "!suspend"])
async def test_redacted_accounts_are_hidden_everywhere(
    case: Scenario, val: str
) -> None:
    await case.first.label(case.account, val)
    assert case.places(REDACTED) == set()
    assert case.places(LABELER) == EVERYWHERE
    with pytest.raises(RefusedError) as refused:
        case.get("app.bsky.actor.getProfile", REDACTED, actor=case.account)
    assert refused.value.name == "AccountTakedown"
    asked = {"q": f"Wombat {case.number}"}
    search = "app.bsky.actor.searchActors"
    found = {x["did"] for x in case.get(search, LABELER, **asked)["actors"]}
    assert case.account in found
    found = {x["did"] for x in case.get(search, REDACTED, **asked)["actors"]}
    assert case.account not in found


async def test_a_redaction_ends_with_its_negation(case: Scenario) -> None:
    await case.first.label(case.post, "!takedown")
    assert case.places() == set()
    await case.first.label(case.post, "!takedown", neg=True)
    assert case.places() == EVERYWHERE


@pytest.mark.parametrize("val", ["!hide", "!warn", "!no-unauthenticated", "porn"])
async def test_other_labels_leave_the_decision_to_clients(
    case: Scenario, val: str
) -> None:
    await case.first.label(case.post, val)
    assert case.places() == EVERYWHERE
    assert case.vals() == [val]


async def test_hidden_accounts_are_not_suggested(case: Scenario) -> None:
    def suggested() -> set[str]:
        found = case.get("app.bsky.actor.getSuggestions", limit=100)["actors"]
        return {actor["did"] for actor in found}

    assert case.account in suggested()
    await case.first.label(case.account, "!hide")
    assert case.account not in suggested()
