"""A notification wakes a listener, and a listener that gets none still stops."""

from threading import Event, Thread

from receiptsvc.store.core.notify import Notifier, listen


def test_a_notification_wakes_a_listener_and_stop_ends_it(postgresql_url: str) -> None:
    woken, stop = Event(), Event()
    listener = Thread(target=listen, args=(postgresql_url, woken.set, stop))
    listener.start()
    notifier = Notifier(postgresql_url)
    try:
        for _ in range(100):  # until it listens
            notifier.notify()
            if woken.wait(0.1):
                break
        assert woken.is_set()
        woken.clear()
        notifier.notify()
        assert woken.wait(0.9), "sooner than the next poll"
    finally:
        stop.set()
        listener.join(5)
        notifier.close()
    assert not listener.is_alive()


def test_a_notifier_without_a_database_raises_nothing() -> None:
    Notifier("postgresql+psycopg://nobody@127.0.0.1:1/nothing").notify()
