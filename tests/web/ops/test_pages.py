"""What holds for every page of /ops."""

from flask.testing import FlaskClient

from tests.support.callers import ALL, bearer


def test_a_page_leads_to_the_sign_in_and_back(visitor: FlaskClient) -> None:
    answer = visitor.get("/ops/sessions/")
    assert answer.status_code == 404
    answer = visitor.get("/ops")
    assert (answer.status_code, answer.headers["Location"]) == (303, "ops/sign-in")


def test_an_api_key_opens_no_page(visitor: FlaskClient) -> None:
    assert visitor.get("/ops", headers=bearer(ALL)).status_code == 303


def test_an_ops_key_signs_in(browser: FlaskClient) -> None:
    page = browser.get("/ops")
    assert page.status_code == 200
    assert "opser" in page.text
    assert page.headers["Cache-Control"] == "no-store"
