"""The session's cookie is decided by PUBLIC_URL alone, and what it proves without the database is little."""

from datetime import timedelta

import pytest
from flask import Response
from werkzeug.test import EnvironBuilder

from receiptsvc.config import Settings
from receiptsvc.store.access import sessions
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from receiptsvc.web.ops import cookies
from tests.support.callers import SECRETS, make_settings
from tests.support.rows import T0

FORGED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "localhost", "Forwarded": "proto=https"}


@pytest.mark.parametrize(
    ("public_url", "name"),
    [
        ("https://sms.example.org", "__Host-receiptsvc"),
        ("https://sms.example.org/receipts", "__Host-receiptsvc"),
        ("https://127.0.0.1:8000", "__Host-receiptsvc"),
        ("http://127.0.0.1:8000", "receiptsvc-ops"),
        ("http://127.8.0.1:8000/sms", "receiptsvc-ops"),
        ("http://[::1]:8000", "receiptsvc-ops"),
        ("http://localhost:8000", "receiptsvc-ops"),
        ("http://sms.localhost", "receiptsvc-ops"),
        ("http://10.0.0.7:8000", None),
        ("http://desk.internal", None),
        ("http://localhost.example.org", None),
    ],
)
@pytest.mark.on_postgresql
def test_its_name_is_decided_by_public_url(database: Database, public_url: str, name: str | None) -> None:
    settings = make_settings(PUBLIC_URL=public_url, DYNMARK_USERNAME="", DYNMARK_PASSWORD="")
    client = create_app(settings, database).test_client()
    own = {"Sec-Fetch-Site": "same-origin"}
    answer = client.post("/ops/sign-in", data={"secret": SECRETS["ops"]}, headers={**own, **FORGED})
    if name is None:
        assert (answer.status_code, "PUBLIC_URL is http" in answer.text) == (403, True)
        assert "PUBLIC_URL is http" in client.get("/ops/sign-in").text
        assert "password" not in client.get("/ops/sign-in").text.partition("<form")[2]
        return
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"{name}=")
    flags = {part.strip() for part in cookie.split(";")[1:]}
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= flags
    assert ("Secure" in flags) == name.startswith("__Host-")
    assert not any(flag.startswith("Domain") for flag in flags)


def seen(settings: Settings, value: str, after: timedelta) -> bool:
    app = create_app(settings, Database("sqlite:////nowhere/unused.db"))
    name = cookies.name(settings)
    with app.request_context(EnvironBuilder(headers=[("Cookie", f"{name}={value}")]).get_environ()):
        return cookies.was_seen_lately(settings, T0 + after)


def written(settings: Settings, secret: str = "s" * 43) -> str:
    response = Response()
    cookies.write(response, settings, secret, T0)
    return response.headers["Set-Cookie"].partition("=")[2].partition(";")[0]


def test_it_proves_for_a_quarter_of_an_hour_that_its_session_was_seen() -> None:
    settings = make_settings()
    value = written(settings)
    assert seen(settings, value, timedelta())
    assert seen(settings, value, timedelta(minutes=15))
    assert not seen(settings, value, timedelta(minutes=15, seconds=1))
    assert not seen(settings, value, timedelta(minutes=-16)), "a clock that is far behind"


def test_the_proof_is_of_one_session_and_one_time() -> None:
    settings = make_settings()
    secret, at, mac = written(settings).split(".")
    other = written(settings, "t" * 43)
    for forged in (
        *(f"{other.partition('.')[0]}.{at}.{mac}", f"{secret}.{int(at) + 1}.{mac}", f"{secret}.{at}.{mac[:-1]}"),
        *(f"{secret}.{at}.", f"{secret}.{at}", f"{secret}..{mac}", secret, "", "..", f"{secret}.{'9' * 400}.{mac}"),
        *(f"{secret}.-1.{mac}", f"{secret}.{at}.ä{mac}"),
    ):
        assert not seen(settings, forged, timedelta()), forged


def test_any_callback_key_that_is_still_listed_proves() -> None:
    value = written(make_settings())
    assert seen(make_settings(CALLBACK_KEYS="k2:fedcba9876543210,k1:0123456789abcdef"), value, timedelta())
    assert not seen(make_settings(CALLBACK_KEYS="k2:fedcba9876543210"), value, timedelta())


def test_the_server_tells_who_has_signed_in_by_the_first_cookie_of_its_name_alone() -> None:
    settings = make_settings()
    app = create_app(settings, Database("sqlite:////nowhere/unused.db"))
    with app.request_context(EnvironBuilder().get_environ()):
        response = Response()
        cookies.write(response, settings, "secret", T0)
    cookie = response.headers["Set-Cookie"].partition(";")[0]
    name = cookies.name(settings)
    whose = sessions.tag_of("secret")
    assert cookies.find_person(settings, f"other=1; {cookie}; more=2", T0 + sessions.LASTS) == whose
    assert cookies.find_person(settings, cookie, T0 + sessions.LASTS + timedelta(seconds=1)) is None
    assert cookies.find_person(settings, f"{name}=a.1.b; {cookie}", T0) is None
    assert cookies.find_person(settings, cookie[:-1], T0) is None
    assert cookies.find_person(settings, f"{name}=secret.999999999999.\xff", T0) is None
