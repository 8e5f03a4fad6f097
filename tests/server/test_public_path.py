"""Every address is found with the path of PUBLIC_URL before it, and without it."""

from typing import Any

import pytest

from receiptsvc.server.public_path import UnderPublicPath
from receiptsvc.server.tolerant_request import under

ROOTS = {"v1", "docs", "openapi.json"}
PATHS = [
    ("/sms", "/sms/docs", "/sms", "/docs"),
    ("/sms", "/docs", "", "/docs"),
    ("/sms", "/sms/v1/messages", "/sms", "/v1/messages"),
    ("/sms", "/smsx/docs", "", "/smsx/docs"),
    ("/sms", "/sms", "/sms", "/"),
    ("/sms", "/sms/", "/sms", "/"),
    ("/sms", "/", "", "/"),
    ("/sms", "/sms/other", "", "/sms/other"),
    ("/a/b", "/a/b/docs", "/a/b", "/docs"),
    ("/my%20sms", "/my sms/docs", "/my sms", "/docs"),
    ("/caf%C3%A9", "/caf\xc3\xa9/docs", "/caf\xc3\xa9", "/docs"),
    ("/v1", "/v1/messages", "", "/v1/messages"),
    ("/v1", "/v1/v1/messages", "/v1", "/v1/messages"),
    ("/docs", "/docs", "", "/docs"),
    ("/docs", "/docs/", "", "/docs/"),
    ("/docs", "/docs/docs", "/docs", "/docs"),
    ("", "/docs", "", "/docs"),
    ("", "/", "", "/"),
]


@pytest.mark.parametrize(("public_path", "path", "script_name", "path_info"), PATHS)
def test_the_path_is_taken_off_where_an_address_of_ours_follows(
    public_path: str, path: str, script_name: str, path_info: str
) -> None:
    seen: list[tuple[str, str]] = []

    def inner(environ: Any, _start_response: Any) -> list[bytes]:
        seen.append((environ.get("SCRIPT_NAME", ""), environ["PATH_INFO"]))
        return []

    UnderPublicPath(inner, public_path, ROOTS)({"PATH_INFO": path}, lambda *_: bytes)
    assert seen == [(script_name, path_info)]


@pytest.mark.parametrize("path", ["/callbacks/receipts/x", "/a/b/callbacks/receipts/x"])
def test_what_is_tolerated_in_the_query_of_a_callback_is_tolerated_under_the_path_too(path: str) -> None:
    assert under("/a/b").tolerated.fullmatch(b"GET " + path.encode() + b"?a=b c\xe9 HTTP/1.1")
    assert not under("/a/b").tolerated.fullmatch(b"GET /c" + path.encode() + b"?a=b c HTTP/1.1")
