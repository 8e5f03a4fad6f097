"""The feed of open pages, on the loop: what each page is sent, and when it ends."""

import threading
from collections.abc import Callable, Collection, Iterator
from uuid import UUID, uuid4

import gevent
import pytest

from receiptsvc.server import page_feed
from receiptsvc.server.page_feed import Made, PageFeed, PageStream, Part

PATIENCE_SECONDS = 20
ANNA, BEN = uuid4(), uuid4()


class Maker:
    """Makes the parts that a test wants, and counts how often it was asked."""

    def __init__(self) -> None:
        self.parts = {"line": Part("a", "Nothing is wrong."), "tick": Part("", "1")}
        self.signed_out: set[UUID] = set()
        self.error: Exception | None = None
        self.times = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, session_ids: Collection[UUID]) -> Made:
        self.times += 1
        self.may_go_on.wait(PATIENCE_SECONDS)
        if self.error is not None:
            raise self.error
        return Made(dict(self.parts), frozenset(session_ids) - self.signed_out)


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def feed(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> Iterator[PageFeed]:
    monkeypatch.setattr(page_feed, "INTERVAL_SECONDS", 0.01)
    feed = PageFeed(maker)
    with gevent.Timeout(PATIENCE_SECONDS):
        yield feed
        feed.end()
        for stream in list(feed.streams):
            stream.close()
        while feed.is_feeding:
            gevent.sleep(0.01)


def open_page(feed: PageFeed, session_id: UUID = ANNA, *tags: str) -> Iterator[bytes]:
    stream = feed.open(session_id, tags)
    assert isinstance(stream, PageStream)
    pieces = iter(stream)
    assert next(pieces).startswith(b"retry: ")
    return pieces


def await_piece(pieces: Iterator[bytes], is_it: Callable[[str], bool]) -> str:
    """The first piece that is it."""
    return next(text for piece in pieces if is_it(text := piece.decode()))


def test_a_page_is_sent_each_part_and_then_what_changes(feed: PageFeed, maker: Maker) -> None:
    pieces = open_page(feed)
    assert next(pieces).decode() == "event: line\nid: a\ndata: Nothing is wrong.\n\nevent: tick\ndata: 1\n\n"
    assert next(pieces).decode() == "event: tick\ndata: 1\n\n", "what has not changed is not sent again"
    maker.parts["line"] = Part("b", "One\ntwo")
    changed = await_piece(pieces, lambda text: "line" in text)
    assert "event: line\nid: b\ndata: One\ndata: two\n\n" in changed


def test_a_page_is_not_sent_what_it_has_but_what_comes_back_later(feed: PageFeed, maker: Maker) -> None:
    pieces = open_page(feed, ANNA, "a")
    assert next(pieces).decode() == "event: tick\ndata: 1\n\n"
    maker.parts["line"] = Part("b", "Something is wrong.")
    await_piece(pieces, lambda text: "Something" in text)
    maker.parts["line"] = Part("a", "Nothing is wrong.")
    await_piece(pieces, lambda text: "Nothing" in text)


def test_all_pages_are_fed_by_one_maker(feed: PageFeed, maker: Maker) -> None:
    maker.may_go_on.clear()
    pages = [open_page(feed) for _ in range(50)]
    waiting = [gevent.spawn(next, pieces) for pieces in pages]
    gevent.sleep(0.1)
    assert maker.times == 1
    maker.may_go_on.set()
    gevent.joinall(waiting)
    assert {greenlet.value for greenlet in waiting} == {next(iter(waiting)).value}
    assert maker.times <= 3


def test_without_pages_nothing_is_made_and_a_new_page_gets_nothing_old(feed: PageFeed, maker: Maker) -> None:
    pieces = open_page(feed)
    next(pieces)
    for stream in list(feed.streams):
        stream.close()
    while feed.is_feeding:
        gevent.sleep(0.01)
    made = maker.times
    gevent.sleep(0.1)
    assert maker.times == made
    maker.parts["line"] = Part("b", "Newer")
    assert "Newer" in next(open_page(feed)).decode()


def test_a_page_ends_with_its_session_and_the_others_go_on(feed: PageFeed, maker: Maker) -> None:
    of_anna, of_ben = open_page(feed, ANNA), open_page(feed, BEN)
    next(of_anna), next(of_ben)
    maker.signed_out = {ANNA}
    assert len(list(of_anna)) < PATIENCE_SECONDS / 0.01, "it ends"
    assert next(of_ben)
    assert {stream.session_id for stream in feed.streams} == {BEN}


def test_a_maker_that_fails_is_logged_once_and_asked_again(
    feed: PageFeed, maker: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    maker.error = RuntimeError("447700900123")
    pieces = open_page(feed)
    waiting = gevent.spawn(lambda: next(pieces))
    while maker.times < 3:
        gevent.sleep(0.01)
    maker.error = None
    assert b"Nothing is wrong" in waiting.get()
    assert [record.getMessage() for record in caplog.records].count("ops.pages_not_fed") == 1
    assert "447700900123" not in caplog.text


def test_no_more_pages_are_fed_than_there_is_room_for(feed: PageFeed) -> None:
    streams = [feed.open(ANNA, (), 2) for _ in range(3)]
    assert [stream is None for stream in streams] == [False, False, True]
    assert streams[0] is not None
    streams[0].close()
    assert feed.open(ANNA, (), 2) is not None


def test_one_session_leaves_room_for_others(feed: PageFeed) -> None:
    streams = [feed.open(ANNA, (), 10) for _ in range(10)]
    assert [stream is None for stream in streams] == [False] * 9 + [True]
    assert feed.open(BEN, (), 10) is not None


def test_one_person_in_many_sessions_leaves_room_for_others(feed: PageFeed) -> None:
    streams = [feed.open(uuid4(), (), 10, who="user anna") for _ in range(10)]
    assert [stream is None for stream in streams] == [False] * 9 + [True]
    assert feed.open(uuid4(), (), 10, who="user ben") is not None


def test_told_to_stop_every_page_ends(feed: PageFeed) -> None:
    stopping = gevent.event.Event()
    stream = feed.open(ANNA, ())
    assert stream is not None
    stream.end_on(stopping)
    pieces = iter(stream)
    next(pieces)
    next(pieces)
    stopping.set()
    assert list(pieces) in ([], [b"event: tick\ndata: 1\n\n"])
    late = feed.open(ANNA, ())
    assert late is not None
    assert len(list(late)) == 1, "the one that begins later ends at once"
