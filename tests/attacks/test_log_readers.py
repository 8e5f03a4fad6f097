"""What reads the log stands still: its pipe fills, and nothing waits for it."""

import fcntl
import json
import os
import re
from pathlib import Path

import requests

from tests.faults.conftest import StartWeb, callback_url


def test_a_log_that_nobody_reads_holds_up_nothing_and_says_what_it_lacks(
    tmp_path: Path, sqlite_url: str, start_web: StartWeb
) -> None:
    folder = tmp_path / "stack"
    folder.mkdir(mode=0o700)
    os.mkfifo(folder / "web.log")
    reader = os.open(folder / "web.log", os.O_RDWR | os.O_NONBLOCK)  # to write too, so that it is never at its end
    try:
        stack = start_web(sqlite_url)
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 65_536)
        with requests.Session() as session:
            for _ in range(1_000):  # of a line each: twice what the pipe holds
                assert session.get(f"{stack.url}/callbacks/receipts/wrong?statusid=1", timeout=5).status_code == 403
            assert session.get(f"{callback_url(stack)}?statusid=1", timeout=5).status_code == 200
            read = os.read(reader, 1024 * 1024)
            assert session.get(f"{stack.url}/callbacks/receipts/wrong?statusid=1", timeout=5).status_code == 403
        dropped, last = [json.loads(line) for line in os.read(reader, 65_536).splitlines() if b"fault" not in line][:2]
        assert (dropped["action"], last["action"]) == ("logs.dropped", "request")
        assert dropped["lines"] + len(re.findall(b'"route"', read)) >= 1_000
        assert stack.stop("web") == 0
    finally:
        os.close(reader)
