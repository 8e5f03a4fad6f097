"""Which service the environment names, and with which key."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from receiptsvc.config import key_path
from receiptsvc.domain.errors import SettingsError


def read(environ: Mapping[str, str]) -> tuple[str, str]:
    """The service's address and the key's secret. Raises SettingsError."""
    faults: list[str] = []
    url, key = _url(environ, faults), _key(environ, faults)
    if faults:
        raise SettingsError(faults)
    return url, key


def _url(environ: Mapping[str, str], faults: list[str]) -> str:
    name = next((name for name in ("RECEIPTSVC_URL", "PUBLIC_URL") if environ.get(name, "").strip()), "PORT")
    given = environ.get(name, "").strip()
    url = f"http://127.0.0.1:{given or 8000}" if name == "PORT" else given
    try:
        parts = urlsplit(url)
        is_fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_fine = False
    if not is_fine or parts.query or parts.fragment or parts.username or not (url.isascii() and url.isprintable()):
        wanted = "a port's number" if name == "PORT" else "an http:// or https:// address without user or query"
        faults.append(f"{name}: must be {wanted}")
    return url


def _key(environ: Mapping[str, str], faults: list[str]) -> str:
    name = "RECEIPTSVC_API_KEY"
    key = environ.get(name, "").strip()
    if not key:
        try:
            key = key_path().read_text().strip()
        except (OSError, UnicodeDecodeError):
            faults.append(f"{name}: must be set to the secret of an API key, because there is none in {key_path()}")
            return ""
    if not (key.isascii() and key.isprintable()):
        faults.append(f"{name}: must be plain ASCII without line breaks")
    return key
