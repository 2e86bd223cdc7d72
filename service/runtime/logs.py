"""Logging: one event a line, for people or as JSON, with secrets redacted.

Standard logging of libraries passes through the same processors.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

from service.runtime.failures import describe_failure

REDACTED = "[redacted]"

_SECRET_KEYS = re.compile(
    r"password|passwd|secret|authorization|cookie|jwt|private_?key|signing_?key"
    r"|api_?key|(^|_)token($|_)",
    re.IGNORECASE,
)
# The group "keep" of a pattern is not redacted.
_SECRET_TEXT = (
    # A JSON web token: "eyJ" is base64url of '{"'.
    re.compile(r"eyJ[\w-]{8,}\.[\w-]+(\.[\w-]*)?"),
    # An HTTP credential.
    re.compile(r"(?P<keep>\b(?:bearer|dpop|basic) )[^\s'\"]+", re.IGNORECASE),
    # User and password in a URL.
    re.compile(r"(?P<keep>://)[^/\s:@]*:[^/\s@]+(?=@)"),
    # password=… and "password": "…" in messages of libraries.
    re.compile(r"(?P<keep>password['\"]?\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s&,;}]+)"),
    # An app password.
    re.compile(r"\b[a-z2-7]{4}(?:-[a-z2-7]{4}){3}\b"),
    # Private keys: PEM, multibase (secp256k1 z3vL…, P-256 z42t…), 32 bytes of hex.
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END[^-]*-----|$)", re.S),
    re.compile(r"\bz(?:3vL|42t)[1-9A-HJ-NP-Za-km-z]{40,}\b"),
    re.compile(r"\b[0-9a-f]{64}\b"),
)
_MAX_DEPTH = 6
_TALKATIVE = (
    "aiohttp.access",
    "alembic",
    "asyncio",
    "celery.beat",
    "scrapy",
    "uvicorn",
)


def redact_text(text: str) -> str:
    """Return `text` without passwords, tokens and private keys."""
    for pattern in _SECRET_TEXT:
        keep = r"\g<keep>" if "keep" in pattern.groupindex else ""
        text = pattern.sub(keep + REDACTED, text)
    return text


def _redact(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth >= _MAX_DEPTH:
        return REDACTED
    if isinstance(value, Mapping):
        return {
            str(key): REDACTED
            if _SECRET_KEYS.search(str(key)) and inner is not None
            else _redact(inner, depth + 1)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_redact(inner, depth + 1) for inner in value]
    return redact_text(str(value))


def redact(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Redact every field, including exception text (structlog processor)."""
    # structlog needs these fields later, with their types.
    own = {
        name: event.pop(name)
        for name in ("_record", "_from_structlog")
        if name in event
    }
    clean: dict[str, Any] = _redact(event)
    return {**clean, **own}


def shorten_expected(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace an expected exception by one line (structlog processor)."""
    error = event.get("exc_info")
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        failure = describe_failure(error)
        if failure is not None:
            del event["exc_info"]
            event["failure"] = failure
    return event


def configure(*, form: str, level: str, stream: TextIO | None = None) -> None:
    """Set up structlog and standard logging of this process.

    `form` is "console" or "json"; `level` a level name. Output goes to `stream`,
    standard error when None.
    """
    stream = stream or sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                shorten_expected,
                structlog.processors.format_exc_info,
                redact,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These libraries log every request or query at info.
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
