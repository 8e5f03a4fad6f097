"""`make pictures`: the pictures of the ops page in the docs, made anew from the demo's conversation.

The numbers in it are Ofcom's for drama (077009 00000 to 00999): they are nobody's.
"""

import base64
import sys
import tempfile
from pathlib import Path

from receiptsvc.demo.processes import Stack
from receiptsvc.demo.story import play
from receiptsvc.locations import PROJECT
from tests.support import browser, databases
from tests.support.browser import Tab

_FOLDER = PROJECT / "docs" / "pictures"
_REFERENCE = "order-7"
_SHOW = "document.querySelector('button[value=reveal]').click()"


def main() -> None:
    """Write every picture. Ends with 1 where there is no browser."""
    if browser.find() is None:
        sys.exit("there is no Chromium: apt-get install chromium")
    _FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="receiptsvc-pictures-") as scratch:
        url = f"sqlite:///{scratch}/pictures.db"
        databases.migrate(url)
        with Stack(Path(scratch) / "stack", url) as stack, browser.started(Path(scratch) / "browser") as tab:
            stack.start_all()
            play(stack, reference=_REFERENCE, show=lambda *_: None)
            _take_all(stack, tab)


def _take_all(stack: Stack, tab: Tab) -> None:
    tab.resize(1100, 800)
    tab.open(f"{stack.url}/ops/sign-in")
    tab.fill("#secret", stack.api_key)
    tab.follow("document.querySelector('form.fields').requestSubmit()")
    client = stack.client()
    message = next(item for item in client.messages(clientRef=_REFERENCE) if item["status"] == "delivered")
    conversation_id = client.message(message["id"])["conversationId"]
    tab.open(f"{stack.url}/ops/messages/{message['id']}")
    _take(tab, "message.png")
    tab.open(f"{stack.url}/ops/conversations/{conversation_id}")
    tab.follow(_SHOW)
    _take(tab, "conversation.png")
    tab.prefer("dark")
    tab.resize(390, 800)
    _take(tab, "conversation-phone-dark.png")


def _take(tab: Tab, name: str) -> None:
    """Write what is seen without scrolling."""
    data = tab.call("Page.captureScreenshot", {"format": "png"})["data"]
    (_FOLDER / name).write_bytes(base64.b64decode(data))


if __name__ == "__main__":
    main()
