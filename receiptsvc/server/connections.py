"""Which connections a process keeps when they become too many, and how many it can hold.

A connection is valued by what was proved on it: a callback's token or an API key. When the pool is nearly full,
connections without a proof are closed first, the oldest first; then those of a token or key beyond its share. Never
closed are connections within the share of their token or key, and those that carried several tokens or keys: these are
a router's or the gateway's, and their next request may be on its way. They only get `Connection: close` in an answer,
when they alone are too many.
"""

import resource
from collections import Counter, defaultdict
from collections.abc import Hashable
from contextlib import suppress

from receiptsvc.server.application import UNAUTHENTICATED
from receiptsvc.server.connection import Client

_MAX_OPEN_FILES = 65_536
# At most: connections to the database (three files each on SQLite), spool, metrics, listeners, pipes.
_OTHER_FILES = 192


def raise_open_files() -> int:
    """Raise the soft limit of open files to the hard one, up to 65,536. Returns the limit that holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < target:
        with suppress(OSError, ValueError):  # some systems have a lower limit that they do not report
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_OPEN_FILES if soft == resource.RLIM_INFINITY else soft


def capacity(open_files: int, max_connections: int, listeners: int) -> int:
    """How many connections fit. gunicorn fills a pool for each listener, and none of them may run out of files."""
    return max(min(max_connections, max(open_files - _OTHER_FILES, open_files // 4) // listeners), 1)


class Connections:
    """The open connections of a process. Used on the event loop only."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.closed: Counter[str] = Counter()  # how many were closed to make room, by reason
        self.unrelieved = 0  # how many came when the pool was nearly full and none could be closed for them
        self._nearly_full = capacity - max(capacity // 8, 1)  # the rest is for those that arrive at the same moment
        self._many = capacity * 3 // 4
        self._share = max(capacity // 8, 1)
        self._newcomers = max(capacity // 16, 1)  # the youngest without a proof: they had no time to send one yet
        self._count = 0
        self._protected = 0  # of `_count`: routers', and those within the share of their token or key
        self._unproven: dict[Client, None] = {}  # the oldest first, as in each of `_proven`
        self._proven: defaultdict[Hashable, dict[Client, None]] = defaultdict(dict)
        self._beyond_share: set[Hashable] = set()

    def add(self, client: Client) -> None:
        """Add a new connection, and close others if there are too many."""
        self._count += 1
        self._unproven[client] = None
        while self._count > self._nearly_full:
            if not self._evict_one():
                self.unrelieved += 1
                return

    def remove(self, client: Client) -> None:
        """Remove a connection that has ended or is about to."""
        if client.is_evicted:
            return
        self._count -= 1
        if client.credential is None:
            del self._unproven[client]
        elif client.is_router:
            self._protected -= 1
        else:
            self._leave(client, self._proven[client.credential])

    def prove(self, client: Client, credential: Hashable) -> None:
        """Note that a connection brought a request with a right token or key."""
        previous = client.credential
        if client.is_router or credential == previous or client.is_evicted:
            return
        if previous is None:
            del self._unproven[client]
        elif credential == UNAUTHENTICATED:
            return  # it proves nothing more
        else:
            self._leave(client, self._proven[previous])
            if previous != UNAUTHENTICATED:
                client.is_router = True
                self._protected += 1
                return
        client.credential = credential
        group = self._proven[credential]
        group[client] = None
        if len(group) <= self._share:
            self._protected += 1
        else:
            self._beyond_share.add(credential)

    def should_close(self, client: Client) -> bool:
        """Whether an answer should close its connection: there are too many of the same value or more."""
        if self._count <= self._many:
            return False
        if client.credential is None:
            return True
        return self._protected > self._many or self.is_beyond_share(client)

    def is_beyond_share(self, client: Client) -> bool:
        """Whether its token or key has more than its share of connections, and those with a proof are many."""
        if client.is_router or client.credential not in self._beyond_share:
            return False
        return self._count - len(self._unproven) > self._many

    def _evict_one(self) -> bool:
        if len(self._unproven) > self._newcomers:
            for client in self._unproven:
                if client.may_be_evicted():
                    return self._evict(client, "unproven")
        for credential in sorted(self._beyond_share, key=lambda credential: -len(self._proven[credential])):
            for client in self._proven[credential]:
                if client.may_be_evicted():
                    return self._evict(client, "beyond_share")
        return False

    def _evict(self, client: Client, reason: str) -> bool:
        self.remove(client)
        client.evict()
        self.closed[reason] += 1
        return True

    def _leave(self, client: Client, group: dict[Client, None]) -> None:
        del group[client]
        if len(group) <= self._share:
            self._beyond_share.discard(client.credential)
        if len(group) < self._share:
            self._protected -= 1
        if not group:
            del self._proven[client.credential]
