"""What the pages load: their stylesheet and scripts. A page names each with a digest, so that it never changes."""

import zlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from flask import Blueprint, Response, abort, request

from receiptsvc.web.http import caching
from receiptsvc.web.http.auth import public

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file and its digest, as it is and compressed: nothing in it is secret, so its length may be known."""

    content: bytes
    compressed: bytes
    content_type: str
    digest: str


@cache
def read(name: str) -> StaticFile:
    """One of the files. Raises FileNotFoundError."""
    path = files("receiptsvc.web.ops") / "static" / name
    content = path.read_bytes()
    kind = next(kind for ending, kind in _TYPES.items() if name.endswith(ending))
    return StaticFile(content, zlib.compress(content, 9, _GZIP), f"{kind}; charset=utf-8", caching.tag_of(content))


def register(blueprint: Blueprint) -> None:
    """Serve the files."""
    names = frozenset(each.name for each in (files("receiptsvc.web.ops") / "static").iterdir() if each.is_file())

    @blueprint.get("/static/<name>")
    @public
    def read_static(name: str) -> Response:
        if name not in names:
            abort(404)
        file = read(name)
        headers = {"Cache-Control": _FOREVER, "Vary": "Accept-Encoding"}
        if request.accept_encodings["gzip"] <= 0:
            return Response(file.content, content_type=file.content_type, headers=headers)
        return Response(file.compressed, content_type=file.content_type, headers=headers | {"Content-Encoding": "gzip"})
