"""What was refused at the door: how many by which key, without what is personal."""

import pytest
from flask.testing import FlaskClient

from receiptsvc.store.core.db import Database
from receiptsvc.store.inbox import counters, rejected
from receiptsvc.store.inbox.rejected import RejectedCallback
from tests.support.reader import Reader
from tests.support.rows import seconds

NUMBER = "447700900123"


@pytest.fixture
def reader(browser: FlaskClient) -> Reader:
    return Reader(browser)


def refuse(database: Database, second: int, kid: str | None) -> None:
    callback = RejectedCallback(
        received_at=seconds(second),
        method="GET",
        address="/callbacks/receipts",
        kid=kid,
        query=f"recipient={NUMBER}&statusid=4".encode(),
    )
    with database.transaction() as session:
        rejected.add(session, [callback])
        counters.add(session, {counters.REFUSED: 1})


def test_they_are_counted_by_key_and_the_newest_are_shown_hidden(reader: Reader, database: Database) -> None:
    for second, kid in enumerate(("k9", "k9", None)):
        refuse(database, second, kid)
    reader.open("/ops/receipts").follow("Refused, not kept")
    assert "3 so far" in reader.text
    assert '<td data-label="Key">k9</td><td data-label="Callbacks">2</td>' in reader.source
    assert '<td data-label="Key">none of our form</td><td data-label="Callbacks">1</td>' in reader.source
    assert len(reader.rows()) == 3
    assert "recipient=•••&statusid=•••" in reader.text
    assert NUMBER not in reader.source
    assert NUMBER in reader.submit("Show numbers and texts").text


def test_none_is_said_so(reader: Reader) -> None:
    assert "None is in the sample." in reader.open("/ops/receipts/refused").text
