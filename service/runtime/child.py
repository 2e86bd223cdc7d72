"""Child processes that never outlive their parent.

This file is a module (`spawn`) and also the shim that `spawn` runs first. The shim may
drop privileges, asks the kernel for a signal when the parent dies, and then executes
the program.

The kernel sends that signal when the *thread* that started the child ends: call `spawn`
from the main thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TypeAlias

NOBODY = 65534

Argument: TypeAlias = str | os.PathLike[str]

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


def spawn(
    argv: Sequence[Argument],
    *,
    death_signal: signal.Signals,
    prefix: Sequence[str] = (),
    as_nobody: bool = False,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start `argv` as a child that gets `death_signal` when this thread ends.

    The child leads its own process group, so that Ctrl-C reaches only the supervisor.
    `prefix` runs before the shim (`unshare … --`); `as_nobody` drops root.
    """
    shim = [
        sys.executable,
        "-I",
        "-S",
        os.path.abspath(__file__),
        str(int(death_signal)),
        str(os.getpid()),
        "nobody" if as_nobody else "same",
    ]
    return subprocess.Popen(
        [*prefix, *shim, *[os.fspath(argument) for argument in argv]],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=None if env is None else dict(env),
        cwd=cwd,
        process_group=0,
    )


def wait_for(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a child to end; return False if it still runs after `seconds`."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _drop_to_nobody(libc: ctypes.CDLL) -> None:
    """Become uid 65534, and keep CAP_DAC_OVERRIDE if allowed.

    PostgreSQL refuses to run as root. With this capability, parent folders of data and
    binaries can stay private.
    """
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    bit = 1 << _CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    if libc.capset(header, data) == 0:
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def end_with_parent(death_signal: int, parent: int) -> None:
    """Ask the kernel for a signal when the parent's thread ends. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        # The parent may have died before prctl was called.
        if os.getppid() != parent:
            sys.exit(1)


def _main(arguments: list[str]) -> None:
    death_signal, parent, user, *argv = arguments
    if sys.platform == "linux":
        if user == "nobody":
            _drop_to_nobody(ctypes.CDLL(None))
        end_with_parent(int(death_signal), int(parent))
    elif user == "nobody":
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    os.execv(argv[0], argv)  # noqa: S606  (no shell is the point)


if __name__ == "__main__":
    _main(sys.argv[1:])
