"""What another site makes a browser send changes nothing, and finds nothing."""

import pytest
from flask.testing import FlaskClient

from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from tests.support.callers import SECRETS, make_settings

HTTPS = "https://sms.example.org/receipts"


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://elsewhere.example"}, True),  # behind another name
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://sms.example.org"}, False),
        ({"Sec-Fetch-Site": "none"}, False),  # nobody types a POST
        ({"Sec-Fetch-Site": ""}, False),
        ({"Origin": "https://sms.example.org"}, True),
        ({"Origin": "http://sms.example.org"}, False),
        ({"Origin": "https://sms.example.org:8443"}, False),
        ({"Origin": "https://sms.example.org.evil.example"}, False),
        ({"Origin": "null"}, False),
        ({}, False),
    ],
)
@pytest.mark.on_postgresql
def test_a_post_comes_from_a_page_of_ours(database: Database, headers: dict[str, str], is_own: bool) -> None:
    client = create_app(make_settings(PUBLIC_URL=HTTPS), database).test_client()
    answer = client.post("/ops/sign-in", data={"secret": SECRETS["ops"]}, headers=headers)
    assert answer.status_code == (303 if is_own else 403)
    assert ("Set-Cookie" in answer.headers) == is_own


@pytest.mark.parametrize(
    ("public_url", "origin"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
@pytest.mark.on_postgresql
def test_an_origin_is_that_of_public_url(database: Database, public_url: str, origin: str) -> None:
    client = create_app(make_settings(PUBLIC_URL=public_url), database).test_client()
    assert client.post("/ops/sign-in", data={"secret": "x" * 20}, headers={"Origin": origin}).status_code == 403
    assert "not right" in client.post("/ops/sign-in", data={"secret": "x" * 20}, headers={"Origin": origin}).text


def test_every_address_refuses_the_posts_of_others(browser: FlaskClient) -> None:
    rules = [
        rule
        for rule in browser.application.url_map.iter_rules()
        if rule.rule.startswith("/ops") and {"POST", "PUT", "PATCH", "DELETE"} & (rule.methods or set())
    ]
    assert rules
    for rule in rules:
        path = rule.build(dict.fromkeys(rule.arguments, "x"), append_unknown=False)
        assert path is not None
        answer = browser.post(path[1], headers={"Sec-Fetch-Site": "cross-site"})
        assert (answer.status_code, "another site" in answer.text) == (403, True), rule.rule
    assert browser.get("/ops").status_code == 200, "not even signed out"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_form_is_one_whatever_its_method(browser: FlaskClient, method: str) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Content-Type": "application/x-www-form-urlencoded"}
    answer = browser.open("/ops/search", method=method, headers=headers, data={"action": "go"})
    assert answer.status_code == 403


def test_a_link_of_another_site_opens_its_page(browser: FlaskClient) -> None:
    assert browser.get("/ops", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
