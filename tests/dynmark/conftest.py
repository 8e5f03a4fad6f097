"""What all tests here stand on: calls that go where the test says."""

import pytest

from tests.dynmark import wire


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the environment, unless a test sets one."""
    for name in wire.proxy_variables():
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the certificate authority of every TLS server of these tests."""
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    wire.AUTHORITY.cert_pem.write_to_path(str(path))
    return str(path)
