"""API keys and scopes; every route declares its scope."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from receiptsvc.web.http import auth
from tests.support.callers import ALL, SECRETS, bearer, make_settings

DOCS = {"/", "/openapi.json", "/docs", "/docs/", "/docs/<name>", "/docs/guides/<path:path>", "/docs/search.json"}
OPS = {"/ops/sign-in", "/ops/static/<name>"}
PUBLIC = {*DOCS, *OPS, "/static/<path:name>", "/healthz", "/metrics", "/readyz"}
ADDRESSES = (("/v1/messages", "POST", "send"), ("/v1/messages", "GET", "read"), ("/v1/ledger", "GET", "ops"))


@pytest.fixture(scope="module")
def unauthenticated(desk: FlaskClient) -> FlaskClient:
    """A caller without a key."""
    return desk.application.test_client()


def test_every_route_declares_its_scope(desk: FlaskClient) -> None:
    app = desk.application
    scopes = {rule.rule: auth.declared_scope(app.view_functions[rule.endpoint]) for rule in app.url_map.iter_rules()}
    assert None not in scopes.values()
    assert {rule for rule, scope in scopes.items() if scope == auth.PUBLIC} == PUBLIC


def test_a_view_cannot_declare_its_scope_twice() -> None:
    with pytest.raises(ValueError, match="declares twice"):
        auth.public(auth.requires("read")(lambda: None))


def test_a_view_without_a_declared_scope_is_closed(desk_database: Database) -> None:
    app = create_app(make_settings(), desk_database)
    app.add_url_rule("/open", view_func=lambda: "hello", endpoint="open")
    assert app.test_client().get("/open", headers=bearer(ALL)).status_code == 500


@pytest.mark.parametrize(("path", "method", "scope"), ADDRESSES)
def test_a_key_opens_only_the_views_of_its_scope(
    unauthenticated: FlaskClient, path: str, method: str, scope: str
) -> None:
    for other, secret in SECRETS.items():
        answer: Any = unauthenticated.open(path, method=method, headers=bearer(secret))
        if other == scope:
            assert answer.status_code not in {401, 403}
        else:
            assert answer.status_code == 403
            assert f"a key with the scope {scope};" in answer.json["detail"]
            assert f'scope="{scope}"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer  "},
        {"Authorization": f"Basic {ALL}"},
        {"Authorization": ALL},
        bearer(ALL[:-1]),
        bearer(ALL + "x"),
        bearer(ALL.upper()),
        {"Authorization": "Bearer \u00e9\u00ff"},
    ],
    ids=str,
)
def test_without_a_known_key_it_is_401(unauthenticated: FlaskClient, headers: dict[str, str]) -> None:
    answer: TestResponse = unauthenticated.get("/v1/messages", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="receiptsvc"')
    assert answer.content_type == "application/problem+json"


def test_the_scheme_bearer_is_case_insensitive(unauthenticated: FlaskClient) -> None:
    assert unauthenticated.get("/v1/messages", headers={"Authorization": f"bearer {ALL}"}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/conversations/x"])
def test_options_is_405(unauthenticated: FlaskClient, path: str) -> None:
    assert unauthenticated.options(path).status_code == 405
