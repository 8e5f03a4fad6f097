"""The word that there is news reaches who listens, and a listener that hears nothing ends all the same."""

from threading import Event, Thread

from receiptsvc.store.core.notify import Notifier, listen


def test_a_word_wakes_who_listens_and_stop_ends_it(postgresql_url: str) -> None:
    woken, stop = Event(), Event()
    listener = Thread(target=listen, args=(postgresql_url, woken.set, stop))
    listener.start()
    bell = Notifier(postgresql_url)
    try:
        for _ in range(100):  # until it listens
            bell.ring()
            if woken.wait(0.1):
                break
        assert woken.is_set()
        woken.clear()
        bell.ring()
        assert woken.wait(0.9), "sooner than it would look by itself"
    finally:
        stop.set()
        listener.join(5)
        bell.close()
    assert not listener.is_alive()


def test_a_bell_without_a_database_is_silent() -> None:
    Notifier("postgresql+psycopg://nobody@127.0.0.1:1/nothing").ring()
