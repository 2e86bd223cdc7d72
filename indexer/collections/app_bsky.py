"""Rows and texts of the app.bsky collections other than posts."""

from __future__ import annotations

from collections.abc import Callable

from indexer.collections.source import (
    Names,
    RowOut,
    Source,
    Value,
    optional_time,
    require_target,
    require_text,
    require_time,
)
from protocol.data.blob import blob_cid
from protocol.errors import InvalidRecordError
from protocol.syntax import is_did
from search.documents import RecordText
from storage.collections import RKEY_SELF
from storage.postgres.text import (
    MAX_DESCRIPTION_CHARS,
    MAX_NAME_CHARS,
    clean_optional,
    clean_text,
)
from storage.records.rows import (
    FEED_GENERATOR,
    LABELER,
    LIST,
    LIST_ITEM,
    PROFILE,
    STARTER_PACK,
)


def profile_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """Return one row for the record `self`, none for any other key."""
    if source.rkey != RKEY_SELF:
        return []
    row = (
        source.actor,
        clean_optional(value.get("displayName"), MAX_NAME_CHARS),
        _description(value),
        blob_cid(value.get("avatar")),
        blob_cid(value.get("banner")),
        optional_time(value),
        source.indexed_at,
    )
    return [(PROFILE, row)]


def labeler_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """Return one row for the record `self`, none for any other key."""
    if source.rkey != RKEY_SELF:
        return []
    return [(LABELER, (source.actor, require_time(value), source.indexed_at))]


def feed_generator_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """Return one row: the DID of the feed's service, and its name."""
    service = require_text(value, "did")
    if not is_did(service):
        raise InvalidRecordError("did", "not a DID")
    row = (
        source.actor,
        source.rkey,
        service,
        clean_text(require_text(value, "displayName"), MAX_NAME_CHARS),
        _description(value),
        blob_cid(value.get("avatar")),
        require_time(value),
        source.indexed_at,
    )
    return [(FEED_GENERATOR, row)]


def list_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """Return one row: the list's purpose and name."""
    row = (
        source.actor,
        source.rkey,
        clean_text(require_text(value, "purpose"), MAX_NAME_CHARS),
        clean_text(require_text(value, "name"), MAX_NAME_CHARS),
        _description(value),
        blob_cid(value.get("avatar")),
        require_time(value),
        source.indexed_at,
    )
    return [(LIST, row)]


def list_item_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """Return one row; none if the list belongs to another account."""
    list_actor, _, list_rkey = names.target(require_target(value, "list"))
    subject, _, _ = names.target(require_target(value, "subject"))
    if list_actor != source.actor:
        return []
    return [(LIST_ITEM, (source.actor, source.rkey, list_actor, list_rkey, subject))]


def starter_pack_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """Return one row: the starter pack's name and list."""
    list_actor, _, list_rkey = names.target(require_target(value, "list"))
    row = (
        source.actor,
        source.rkey,
        clean_text(require_text(value, "name"), MAX_NAME_CHARS),
        _description(value),
        list_actor,
        list_rkey,
        require_time(value),
        source.indexed_at,
    )
    return [(STARTER_PACK, row)]


def gate_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """Require the link to the gated post; a gate is read from its record."""
    require_target(value, "post")
    return []


def named_text(title: str) -> Callable[[Value], RecordText]:
    """Return a `to_text` of the description and of the field `title`."""

    def to_text(value: Value) -> RecordText:
        return RecordText(
            text=_description(value) or "",
            title=clean_optional(value.get(title), MAX_NAME_CHARS) or "",
        )

    return to_text


def _description(value: Value) -> str | None:
    return clean_optional(value.get("description"), MAX_DESCRIPTION_CHARS)
