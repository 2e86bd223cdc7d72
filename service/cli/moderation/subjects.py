"""Subjects of moderation on the command line: accounts, records, blobs."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from protocol.data.cid import cid_from_text
from protocol.errors import InvalidEncodingError
from service.cli.account_names import find_account
from service.operator_errors import ConfigError
from service.runtime.config import Config
from storage.private.takedowns import InvalidSubjectError, parse_subject

Subject = Annotated[
    str,
    typer.Argument(
        metavar="SUBJECT",
        help="An account (DID or handle), a record (AT-URI), or a blob (ACCOUNT/CID).",
    ),
]
Labelled = Annotated[
    str,
    typer.Argument(
        metavar="SUBJECT", help="An account (DID or handle) or a record (AT-URI)."
    ),
]


def find_subject(config: Config, text: str) -> str:
    """Return the subject that a text names, with a DID in place of a handle.

    Raises ConfigError for other texts.
    """
    is_uri = text.startswith("at://")
    name, slash, path = text.removeprefix("at://").rstrip("/").partition("/")
    did = find_account(config, name)
    if not slash:
        return did
    try:
        return parse_subject(f"{'at://' if is_uri else ''}{did}/{path}")
    except InvalidSubjectError as error:
        raise ConfigError(str(error)) from None


def operator_name() -> str:
    """Return the name of the person at the command line, for the log of decisions."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def read_cid(text: str | None) -> bytes:
    """Return the bytes of a CID, none without one. Raises ConfigError."""
    if text is None:
        return b""
    try:
        return cid_from_text(text)
    except InvalidEncodingError:
        raise ConfigError(f"--cid: {text!r} is not a CID") from None
