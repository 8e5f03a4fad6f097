"""A browser at the ops page, without a server in between."""

import pytest
from flask.testing import FlaskClient

from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from tests.support.callers import SECRETS, make_settings

OWN = {"Sec-Fetch-Site": "same-origin"}  # what a browser adds to a request that a page of ours makes


@pytest.fixture
def visitor(database: Database) -> FlaskClient:
    """A browser in which nobody has signed in, on each database engine."""
    client = create_app(make_settings(), database).test_client()
    client.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    return client


@pytest.fixture
def browser(visitor: FlaskClient) -> FlaskClient:
    """A browser in which the ops key has signed in, as `key opser`."""
    assert visitor.post("/ops/sign-in", data={"secret": SECRETS["ops"]}).status_code == 303
    return visitor
