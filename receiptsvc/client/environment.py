"""Reads the service's address and API key from the environment, and says where they came from."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from receiptsvc.domain.errors import SettingsError
from receiptsvc.locations import key_path


class Access(NamedTuple):
    """The service's address, the key's secret, and in words where each came from."""

    url: str
    url_source: str
    key: str
    key_source: str


def read(environ: Mapping[str, str]) -> Access:
    """How to reach the service. Raises SettingsError with every fault."""
    faults: list[str] = []
    access = Access(*_read_url(environ, faults), *_read_key(environ, faults))
    if faults:
        raise SettingsError(faults)
    return access


def _read_url(environ: Mapping[str, str], faults: list[str]) -> tuple[str, str]:
    name = next((name for name in ("RECEIPTSVC_URL", "PUBLIC_URL") if environ.get(name, "").strip()), "PORT")
    value = environ.get(name, "").strip()
    url = f"http://127.0.0.1:{value or 8000}" if name == "PORT" else value
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or parts.query or parts.fragment or parts.username or not (url.isascii() and url.isprintable()):
        rule = "a port's number" if name == "PORT" else "an http:// or https:// address without user or query"
        faults.append(f"{name}: must be {rule}")
    return url, name if value else "because RECEIPTSVC_URL is not set"


def _read_key(environ: Mapping[str, str], faults: list[str]) -> tuple[str, str]:
    name = "RECEIPTSVC_API_KEY"
    key, source = environ.get(name, "").strip(), f"the one in {name}"
    if not key:
        source = f"the one in {key_path()}, because {name} is not set"
        try:
            key = key_path().read_text().strip()
        except (OSError, UnicodeDecodeError):
            faults.append(f"{name}: must be set to the secret of an API key, because there is none in {key_path()}")
            return "", source
    if not (key.isascii() and key.isprintable()):
        faults.append(f"{name}: must be plain ASCII without line breaks")
    return key, source
