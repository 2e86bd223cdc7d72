"""URL patterns in the settings: https, with fields in braces."""

from __future__ import annotations

from string import Formatter
from urllib.parse import urlsplit


def check_pattern(name: str, pattern: str | None, fields: tuple[str, ...]) -> None:
    """Raise ValueError unless `pattern` is None or a URL with {did} and {cid}.

    `fields` are allowed besides; other fields are errors.
    """
    if pattern is None:
        return
    known = {"did", "cid", *fields}
    found = set()
    try:
        parsed = [*Formatter().parse(pattern)]
    except ValueError as error:
        raise ValueError(f"{name}: {pattern!r}: {error}") from None
    for _, field, spec, conversion in parsed:
        if field is None:
            continue
        if field not in known or spec or conversion:
            raise ValueError(f"{name}: {{{field}}} is none of {sorted(known)}")
        found.add(field)
    if not {"did", "cid"} <= found:
        raise ValueError(f"{name}: {pattern!r} needs {{did}} and {{cid}}")
    parts = urlsplit(pattern)
    if parts.scheme != "https" or not parts.hostname or "{" in parts.netloc:
        raise ValueError(f"{name}: {pattern!r} is not an https URL of one host")
