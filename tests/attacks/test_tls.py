"""TLS to the database, and its loss: callbacks are kept or answered 503, faults have names, and no password is shown."""

import subprocess
from pathlib import Path

import pytest
import trustme
from sqlalchemy.engine import make_url

from receiptsvc.demo.processes import answers
from tests.faults.conftest import callback_url
from tests.faults.proof import assert_nothing_lost
from tests.support.forked import Stack
from tests.support.load import Load
from tests.support.processes import until
from tests.support.tls_front import TlsFront

PASSWORD = "sesame-0123456789"  # the server asks for none


def through(front: TlsFront, url: str, trusted: Path) -> str:
    """The same database, by TLS, from a server that the authority vouches for."""
    query = {"sslmode": "verify-full", "sslrootcert": str(trusted)}
    by_tls = make_url(url).set(port=front.port, password=PASSWORD).update_query_dict(query)
    return by_tls.render_as_string(hide_password=False)


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return made


@pytest.mark.slow
def test_a_lost_encrypted_connection_costs_no_callback(
    tmp_path: Path, postgresql_url: str, authority: trustme.CA
) -> None:
    with TlsFront(make_url(postgresql_url).port or 0, authority) as front:
        url = through(front, postgresql_url, tmp_path / "authority.pem")
        with Stack(tmp_path / "stack", url, settings={"CALLBACK_BUDGET_SECONDS": "1"}) as stack:
            stack.start("sandbox", "web", "worker")
            stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
            client = stack.client()
            assert front.handshakes >= 3
            with Load(callback_url(stack), connections=4) as load:
                for _ in range(2):
                    front.cut()
                    front.is_open = False
                    begun = len(load.calls)
                    until("callbacks are refused", lambda: 503 in {call.status for call in load.calls[begun:]})  # noqa: B023
                    front.is_open = True
                    begun = len(load.calls)
                    until("callbacks are kept", lambda: 200 in {call.status for call in load.calls[begun:]})  # noqa: B023
            [sent] = client.send([{"recipients": ["447700900001"], "text": "Hello"}])
            until("a message is delivered", lambda: client.message(sent["id"])["status"] == "delivered")
            until("all is worked on", lambda: client.ledger()["pending"] == 0)
        assert load.statuses == {200, 503}
        for log in (tmp_path / "stack").glob("*.log"):
            assert PASSWORD not in log.read_text(), log.name
    assert_nothing_lost(postgresql_url, load.kept)


@pytest.mark.slow
def test_a_wrong_certificate_and_a_server_without_tls_are_named(tmp_path: Path, postgresql_url: str) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    port = make_url(postgresql_url).port or 0
    with TlsFront(port, trustme.CA()) as strange:
        urls = [through(strange, postgresql_url, tmp_path / "authority.pem"), f"{postgresql_url}?sslmode=require"]
        for number, url in enumerate(urls):
            stack = Stack(tmp_path / str(number), url)
            ended = subprocess.run(
                stack.commands["migrations"],
                cwd=stack.project,
                env=stack.environ,
                capture_output=True,
                text=True,
                check=False,
            )
            assert ended.returncode == 1
            assert "the encrypted connection fails" in ended.stderr
            assert len(ended.stderr.strip().splitlines()) == 1
            assert PASSWORD not in ended.stdout + ended.stderr
