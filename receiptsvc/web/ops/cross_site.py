"""Tells the page's own requests from those that another site makes a browser send."""

from urllib.parse import urlsplit

from flask import request


def is_own(public_url: str) -> bool:
    """Whether the current request comes from a page of ours.

    Browsers say so in Sec-Fetch-Site, on https and on loopback. An older one sends an Origin with its POSTs, which is
    that of PUBLIC_URL. What says neither is refused: it is no browser, or nobody knows.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return request.headers.get("Origin") == _origin(public_url)


def _origin(url: str) -> str:
    """The origin of a URL, as browsers write it: without the port that its scheme has anyway."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in {None, usual} else "")
