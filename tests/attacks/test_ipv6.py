"""Everything over IPv6 alone: web, callbacks, the gateway and the database."""

import socket
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from sqlalchemy.engine import make_url

from receiptsvc.demo.processes import answers, free_port
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import verification
from tests.support.forked import Stack
from tests.support.processes import until


def has_ipv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.slow
@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_message_and_its_receipts_travel_by_ipv6(tmp_path: Path, postgresql_url: str) -> None:
    url = make_url(postgresql_url).set(host="::1").render_as_string(hide_password=False)
    web, sandbox = free_port(), free_port()
    settings = {
        "LISTEN_ADDRESS": "::1",
        "PUBLIC_URL": f"http://[::1]:{web}",
        "DYNMARK_SOAP_URL": f"http://[::1]:{sandbox}/WebServices/MessagingServicesWS.asmx",
        "DYNMARK_REST_URL": f"http://[::1]:{sandbox}/webapi/message/send",
    }
    flags = ["--host", "::1"]
    with Stack(tmp_path / "stack", url, ports=(web, sandbox), settings=settings, sandbox_flags=flags) as stack:
        stack.url, stack.sandbox_url = f"http://[::1]:{web}", f"http://[::1]:{sandbox}"
        stack.start("sandbox", "web", "worker")
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
        stack.wait_until("the sandbox", lambda: answers(f"{stack.sandbox_url}/sandbox/report"))
        client = stack.client()
        [sent] = client.send([{"recipients": ["447700900001"], "text": "Hello"}])
        until("it is delivered", lambda: client.message(sent["id"])["status"] == "delivered")
        [taken] = requests.get(f"{stack.sandbox_url}/sandbox/messages", timeout=5).json()
        assert taken["callbackUrl"].startswith(f"http://[::1]:{web}/callbacks/receipts/")
        assert not answers(f"http://127.0.0.1:{web}/healthz")
    database = Database(postgresql_url)
    assert list(verification.verify(database)) == []
    database.close()
