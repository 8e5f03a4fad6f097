"""The service as it is deployed under a path of a real proxy, which takes that path off or leaves it."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import pytest
import requests

from receiptsvc import tokens
from receiptsvc.client import Client, Json
from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack, answers, free_port
from receiptsvc.locations import PROJECT
from tests.support import nginx
from tests.support.page_links import assert_whole, crawl
from tests.support.processes import until

pytestmark = pytest.mark.slow

PATH = "/sms"
API_KEY = "all-0123456789abcdef="
BROWSER = {"Accept": "text/html"}
# The examples of the docs, in their order.
LEFT, TAKEN_OFF, TWO_PORTS = re.findall(
    r"```nginx\n(.*?)```", (PROJECT / "docs" / "operations.md").read_text(), re.DOTALL
)
WAYS = {"the path is left": LEFT, "the path is taken off": TAKEN_OFF}


class Deployed:
    """A service behind a proxy, and what a client of the proxy sees."""

    def __init__(self, stack: Stack, root: str) -> None:
        self.stack, self.root, self.url = stack, root, f"{root}{PATH}"
        self.client = Client(self.url, stack.api_key)
        self.static_urls = tokens.static_urls(Settings.from_env(stack.environ))

    def fetch(self, path: str) -> str:
        """The text at a path of the proxy, without a redirect."""
        answer = requests.get(self.root + path, headers=BROWSER, timeout=20, allow_redirects=False)
        assert answer.status_code == 200, path
        return answer.text

    def get(self, url: str) -> Json:
        """The JSON at an address that the service wrote."""
        answer = requests.get(url, headers={"Authorization": f"Bearer {self.stack.api_key}"}, timeout=20)
        assert answer.status_code == 200, url
        found: Json = answer.json()
        return found

    def send(self, client_ref: str) -> Json:
        """A message that was sent and has been reported on."""
        [item] = self.client.submit([{"recipients": ["447700900001"], "text": "Hello", "clientRef": client_ref}])[
            "messages"
        ]
        until("it is delivered", lambda: self.client.message(item["id"])["status"] == "delivered")
        return self.client.message(item["id"])


@pytest.fixture(scope="module", params=WAYS)
def deployed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("proxy")
    url = f"sqlite:///{folder / 'test.db'}"
    ports = free_port(), free_port()
    with nginx.running(folder / "nginx", ports[0], WAYS[request.param]) as port:
        root = f"http://127.0.0.1:{port}"
        settings = {"PUBLIC_URL": root + PATH, "ADOPT_AFTER_SECONDS": "0.1"}
        with Stack(folder / "stack", url, ports=ports, settings=settings) as stack:
            stack.start_all()
            yield Deployed(stack, root)


def test_a_receipt_comes_back_to_the_url_that_its_message_carried(deployed: Deployed) -> None:
    message = deployed.send("order-1")
    [rule] = {step["rule"] for step in message["transitions"] if step["receiptId"]}
    assert rule == "token"


def test_addresses_in_answers_lead_back(deployed: Deployed) -> None:
    message = deployed.send("order-2")
    assert message["url"] == f"{deployed.url}/v1/messages/{message['id']}"
    assert deployed.get(message["url"])["id"] == message["id"]
    [hit] = deployed.client.search(message["id"])
    assert deployed.get(hit["url"])["id"] == message["id"]


def test_receipts_of_others_and_replies_are_kept_at_the_portal_s_addresses(deployed: Deployed) -> None:
    receipt = {"recipient": "447700900009", "statusid": "1", "statusdescription": "Delivered", "transactionid": "4711"}
    answers = [requests.get(deployed.static_urls.receipts, params=receipt, timeout=20)]
    reply = {"msgid": "1", "sender": "447700900001", "recipient": "447700900100", "content": "Yes"}
    answers.append(requests.post(deployed.static_urls.inbound, data=reply, timeout=20))
    assert [(answer.status_code, answer.text) for answer in answers] == [(200, "OK\n")] * 2

    def are_done() -> bool:
        ledger = deployed.client.ledger()
        return bool(ledger["pending"] == ledger["unmatched"] == 0)

    until("both are worked on, and the receipt is taken for another system's", are_done)
    assert [item["content"] for item in deployed.client.replies()] == ["Yes"]
    assert deployed.client.transaction("4711")["messages"]


def test_what_is_not_http_in_a_callback_s_query_is_tolerated(deployed: Deployed) -> None:
    before = deployed.client.ledger()["callbacks"]
    place = urlsplit(deployed.static_urls.receipts)
    with socket.create_connection((place.hostname or "", place.port or 0), 20) as wire:
        wire.sendall(f"GET {place.path}?clientref=caf\xe9 HTTP/1.0\r\n\r\n".encode("latin-1"))
        assert b" 200 " in wire.recv(1000).splitlines()[0]
    assert deployed.client.ledger()["callbacks"] == before + 1


def test_a_browser_is_led_to_the_ops_page_and_to_the_documentation(deployed: Deployed) -> None:
    for path, target in (("", "/ops/sign-in"), ("/", "/ops/sign-in"), ("/docs/", "/docs")):
        answer = requests.get(deployed.url + path, headers=BROWSER, timeout=20)
        assert (answer.url, answer.status_code) == (deployed.url + target, 200), path


def test_an_operator_signs_in_and_finds_a_message(deployed: Deployed) -> None:
    message = deployed.send("order-4")
    with requests.Session() as browser:
        browser.headers["Sec-Fetch-Site"] = "same-origin"
        begin = browser.post(f"{deployed.url}/ops/sign-in", data={"secret": deployed.stack.api_key}, timeout=20)
        assert (begin.url, begin.status_code) == (f"{deployed.url}/ops", 200)
        found = browser.post(f"{deployed.url}/ops/search", data={"q": "order-4"}, timeout=20)
        assert (found.url.startswith(f"{deployed.url}/ops/"), found.status_code) == (True, 200)
        page = browser.get(f"{deployed.url}/ops/messages/{message['id']}", timeout=20)
        assert page.status_code == 200
        for asset in re.findall(r'(?:href|src)="([^"]*static/[^"]*)"', page.text):
            assert browser.get(urljoin(page.url, asset), timeout=20).status_code == 200, asset


def test_the_documentation_s_links_and_assets_are_found(deployed: Deployed) -> None:
    pages = dict(crawl(deployed.fetch, f"{PATH}/docs"))
    assert f"{PATH}/docs/guides/operations" in pages
    assert_whole(pages, deployed.fetch)
    deployed.fetch(f"{PATH}/docs/search.json")


def test_the_description_names_the_server(deployed: Deployed) -> None:
    description = deployed.get(f"{deployed.url}/openapi.json")
    assert description["servers"] == [{"url": deployed.url}]
    shown = re.sub(r"<[^>]+>", "", deployed.fetch(f"{PATH}/docs/messages"))
    assert f"{deployed.url}/v1/messages" in shown


@pytest.mark.parametrize("client_ref", ["a/b c?#%2Fd", "caf\u00e9"])
def test_a_reference_in_a_path_is_read_as_it_was_written(deployed: Deployed, client_ref: str) -> None:
    deployed.client.submit([{"recipients": ["447700900002"], "text": "Hello", "clientRef": client_ref}])
    conversation = deployed.get(f"{deployed.url}/v1/conversations/{quote(client_ref, safe='')}")
    assert conversation["clientRef"] == client_ref


def test_events_come_as_they_happen(deployed: Deployed) -> None:
    first = deployed.send("order-3")
    events = deployed.client.events("000000000000.000", clientRef="order-3")
    assert next(events).data["id"] == first["id"]
    second = deployed.send("order-3")
    assert second["id"] in (event.data["id"] for event in events), "on the stream that was open"


def test_probes_and_metrics_are_found(deployed: Deployed) -> None:
    for path in ("/healthz", "/readyz"):
        deployed.fetch(PATH + path)
    answer = requests.get(
        f"{deployed.url}/metrics", headers={"Authorization": f"Bearer {deployed.stack.api_key}"}, timeout=20
    )
    assert answer.status_code == 200


def test_callbacks_and_the_api_on_two_ports(sqlite_url: str, tmp_path: Path) -> None:
    ports, sandbox = {"api": free_port(), "callbacks": free_port()}, free_port()
    locations = TWO_PORTS.replace("127.0.0.1:8001", f"127.0.0.1:{ports['callbacks']}")
    with nginx.running(tmp_path / "nginx", ports["api"], locations) as port, ExitStack() as running:
        root = f"http://127.0.0.1:{port}"
        shared = {"PUBLIC_URL": root, "CALLBACK_KEYS": "0123456789abcdef", "WEB_CONCURRENCY": "1"}
        for role, own in ports.items():
            settings = {**shared, "WEB_ROLE": role}
            stack = Stack(tmp_path / role, sqlite_url, ports=(own, sandbox), api_key=API_KEY, settings=settings)
            running.enter_context(stack)
            stack.start("web")
            stack.wait_until(f"{role} is served", partial(answers, f"{stack.url}/readyz"))
        stack.start("sandbox", "worker")
        client = Client(root, API_KEY)
        [item] = client.submit([{"recipients": ["447700900001"], "text": "Hello"}])["messages"]
        until("it is delivered", lambda: client.message(item["id"])["status"] == "delivered")
        receipts = tokens.static_urls(Settings.from_env(stack.environ)).receipts
        assert requests.get(receipts, timeout=20).text == "OK\n"
        assert [line for line in client.call("GET", "/readyz")["degraded"] if line.startswith("misrouted")] == []
        assert requests.get(f"{root}/metrics", timeout=20).status_code == 200
