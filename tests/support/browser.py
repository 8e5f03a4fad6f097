"""Chromium without a window, driven over a pipe by its DevTools protocol: what a page looks like and does.

https://chromedevtools.github.io/devtools-protocol/ documents the methods and events.
"""

import json
import os
import selectors
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

_SECONDS = 60.0  # for one answer; a machine that does much else takes long to start it
_OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # which root can't have, and a container often can't
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--mute-audio",
    "--hide-scrollbars",
)


def find() -> str | None:
    """The browser of this machine; None: it has none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """One page in a browser."""

    def __init__(self, process: "_Process") -> None:
        self._process = process
        target = process.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = process.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", {"enabled": True})

    def call(self, method: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Call a method of the protocol, and return its result."""
        return self._process.call(method, parameters or {}, self._session)

    def open(self, url: str) -> None:
        """Go to an address, and wait until all of it is there."""
        loader = self.call("Page.navigate", {"url": url})["loaderId"]
        self._process.wait_for("Page.lifecycleEvent", {"loaderId": loader, "name": "load"})

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """A block that leads to another page: at its end all of that is there."""
        seen = len(self._process.seen("Page.loadEventFired"))
        yield
        self._process.wait_for_another("Page.loadEventFired", seen)

    def follow(self, script: str) -> None:
        """Run what leads to another page, and wait until all of that is there."""
        with self.leaving():
            self.run(f"{script}; 0")

    def fill(self, selector: str, text: str) -> None:
        """Write a text into a field."""
        self.run(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(text)}")

    def run(self, script: str) -> Any:
        """The value of an expression of JavaScript; of a promise, what it comes to."""
        options = {"expression": script, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", options)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def resize(self, width: int, height: int) -> None:
        """Show the page at this size, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        """Prefer `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", {"features": features})

    def press(self, key: str) -> None:
        """Press and release a key."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        code = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowDown": 40}.get(key, ord(key[0]))
        for kind in ("keyDown", "keyUp"):
            event = {"type": kind, "key": key, "windowsVirtualKeyCode": code, **(text if kind == "keyDown" else {})}
            self.call("Input.dispatchKeyEvent", event)

    def write(self, text: str) -> None:
        """Put a text in where the focus is."""
        self.call("Input.insertText", {"text": text})

    def complaints(self) -> list[str]:
        """What the page has complained about since the browser began: refused by its policy, missing, raised."""
        logged = [event["entry"]["text"] for event in self._process.seen("Log.entryAdded")]
        raised = [event["exceptionDetails"]["text"] for event in self._process.seen("Runtime.exceptionThrown")]
        return logged + raised

    def requested(self) -> list[str]:
        """What the page has asked for since the browser began, by address."""
        return [event["request"]["url"] for event in self._process.seen("Network.requestWillBeSent")]

    def received(self) -> list[int]:
        """The bytes of each answer since the browser began, as they came: headers, and the body compressed."""
        return [event["encodedDataLength"] for event in self._process.seen("Network.loadingFinished")]


class _Process:
    """A browser's process. Messages end with a zero byte, both ways."""

    def __init__(self, program: str, profile: Path) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, self._out = os.pipe()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        self._in, self._rest, self._number = ours_in, b"", 0
        self._events: list[dict[str, Any]] = []
        moves = [(os.POSIX_SPAWN_DUP2, nowhere, 2), (os.POSIX_SPAWN_DUP2, nowhere, 1)]
        moves += [(os.POSIX_SPAWN_DUP2, theirs_in, 3), (os.POSIX_SPAWN_DUP2, theirs_out, 4)]  # where Chromium looks
        arguments = [program, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self._pid = os.posix_spawn(program, arguments, os.environ, file_actions=moves, setpgroup=0)
        for end in (theirs_in, theirs_out, nowhere):
            os.close(end)

    def call(self, method: str, parameters: Mapping[str, Any], session: str | None = None) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._out, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._events.append(answer)
        raise AssertionError(f"the browser ended during {method}")

    def wait_for(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Wait for an event that has these parameters among others, unless it has come already."""
        for event in chain(self._events[:], self._messages()):
            if event not in self._events:
                self._events.append(event)
            if event.get("method") == name and parameters.items() <= event["params"].items():
                return
        raise AssertionError(f"the browser ended before {name}")

    def wait_for_another(self, name: str, seen: int) -> None:
        """Wait until more than so many events of a name have come."""
        messages = self._messages()
        while len(self.seen(name)) <= seen:
            message = next(messages, None)
            assert message is not None, f"the browser ended before {name}"
            self._events.append(message)

    def seen(self, name: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self._events if event.get("method") == name]

    def close(self) -> None:
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._in)
        os.close(self._out)

    def _messages(self) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + _SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._in, selectors.EVENT_READ)
            while True:
                while b"\0" in self._rest:
                    message, _, self._rest = self._rest.partition(b"\0")
                    yield json.loads(message)
                assert selector.select(deadline - time.monotonic()), "the browser does not answer"
                read = os.read(self._in, 1 << 20)
                if not read:
                    return
                self._rest += read


@contextmanager
def started(profile: Path) -> Iterator[Tab]:
    """A page in a browser of its own, which ends with the block. `profile`: a folder for what it keeps."""
    program = find()
    assert program is not None
    process = _Process(program, profile)
    try:
        yield Tab(process)
    finally:
        process.close()
