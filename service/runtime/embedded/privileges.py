"""Start of programs that refuse to run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache

from service.runtime.child import NOBODY


@dataclass(frozen=True, slots=True)
class Launch:
    """Command prefix and file owner of a program that refuses to run as root."""

    prefix: tuple[str, ...]
    as_nobody: bool
    owner: int


@cache
def user_namespaces_work() -> bool:
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    probe = [*_unshare_prefix(unshare), "/bin/true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def _unshare_prefix(unshare: str) -> tuple[str, ...]:
    return (unshare, "--user", "--map-user=1000", "--map-group=1000", "--")


def choose_launch() -> Launch:
    if os.geteuid() != 0:
        return Launch((), False, os.geteuid())
    unshare = shutil.which("unshare")
    if unshare is not None and user_namespaces_work():
        return Launch(_unshare_prefix(unshare), False, 0)
    return Launch((), True, NOBODY)
