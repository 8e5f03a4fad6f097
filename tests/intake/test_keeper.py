"""The writer of callbacks tells others of its commits, and not at each of them."""

from datetime import UTC, datetime
from itertools import pairwise
from time import monotonic

import gevent

from receiptsvc import ids
from receiptsvc.domain.inbox import Channel
from receiptsvc.domain.messages import Callback
from receiptsvc.intake.keeper import Keeper
from receiptsvc.store.db import Database
from receiptsvc.store.door import open_door
from receiptsvc.store.inbox import Arrival

FOR_SECONDS = 0.5


def arrival() -> Arrival:
    return Arrival(
        id=ids.new(),
        channel=Channel.ACCOUNT,
        message_id=None,
        received_at=datetime.now(UTC),
        callback=Callback(method="GET", query=b"a=1", content_type=None, body=b""),
    )


def test_news_are_told_after_commits_and_at_most_once_in_20_ms(database_url: str, database: Database) -> None:
    door = open_door(database_url, database.slot, patience_seconds=5)
    told: list[float] = []
    keeper = Keeper(door, budget_seconds=5, on_news=lambda: told.append(monotonic()))
    began, commits = monotonic(), 0
    while monotonic() < began + FOR_SECONDS:
        keeper.keep(arrival())  # alone in its group
        commits += 1
    last = monotonic()
    with gevent.Timeout(5):
        while told[-1] < last - 0.02:  # the word of the last commit may have gone out before we looked at the clock
            gevent.sleep(0.005)
    keeper.close()
    door.close()
    gaps = [later - sooner for sooner, later in pairwise(told)]
    assert min(gaps) >= 0.02
    assert commits > len(told) > 1, "each told of several"
    with database.reading() as session:
        assert session.connection().exec_driver_sql("select count(*) from inbox").scalar() == commits
