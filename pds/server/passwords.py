"""Password hashing: scrypt, with a salt for each account."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

from pds.work_queue import WorkQueue

MIN_PASSWORD_CHARS = 8
MAX_PASSWORD_CHARS = 256

_LOG_N = 14
_R = 8
_P = 1
_SALT_BYTES = 16
_HASH_BYTES = 32

# A hash takes 16 MiB and tens of milliseconds of a core. One core stays free for the
# other requests.
PARALLEL_HASHES = max(1, min(4, (os.cpu_count() or 2) - 1))
MAX_WAITING_HASHES = 24


class HashQueue(WorkQueue):
    """A bounded queue of password hashes in threads."""

    def __init__(
        self, at_once: int = PARALLEL_HASHES, waiting: int = MAX_WAITING_HASHES
    ) -> None:
        super().__init__(at_once, waiting, "too many passwords are being checked")


def hash_password(password: str) -> str:
    """Return `scrypt$log2(N)$r$p$salt$hash`, salt and hash in base64."""
    salt = os.urandom(_SALT_BYTES)
    return _format(salt, _derive(password, salt, _LOG_N, _R, _P))


def check_password(password: str, stored: str | None) -> bool:
    """Return True if `password` made `stored`.

    With `stored` None (no such account) it takes the same time, so that timing does not
    reveal accounts.
    """
    if stored is None:
        _derive(password[:MAX_PASSWORD_CHARS], bytes(_SALT_BYTES), _LOG_N, _R, _P)
        return False
    _, log_n, r, p, salt, expected = stored.split("$")
    if len(password) > MAX_PASSWORD_CHARS:
        password = ""
    actual = _derive(password, base64.b64decode(salt), int(log_n), int(r), int(p))
    return hmac.compare_digest(actual, base64.b64decode(expected))


def _derive(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=salt,
        n=1 << log_n,
        r=r,
        p=p,
        maxmem=256 * r * (1 << log_n),
        dklen=_HASH_BYTES,
    )


def _format(salt: bytes, digest: bytes) -> str:
    texts = [base64.b64encode(part).decode("ascii") for part in (salt, digest)]
    return "$".join(["scrypt", str(_LOG_N), str(_R), str(_P), *texts])
