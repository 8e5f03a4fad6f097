"""How the connections to PostgreSQL that DATABASE_CONNECTIONS allows are shared out among one set of processes.

A set is the web processes and the worker of one deployment. A web process for callbacks alone stands beside the set,
and opens the same few whatever the set may open. The README shows the same formula.
"""

from dataclasses import dataclass, replace

DEFAULT = 18
FOR_COMMANDS = 2  # left free for `migrate`, `verify` and the others
_OF_LISTENER = 1  # the worker's, which hears of new work
_MIN_OF_WEB = 1  # in the pool of each web process; without an API all it has, for health and counts
_MIN_OF_WORKER = 2
_MAX_OF_API = 18  # one for each thread that may ask the database
_MAX_OF_PAGE = 8
_DUTIES = 6  # threads of the worker that ask the database, beside those that send


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionShares:
    """How many connections each process may have in its pool, beside those that have one purpose."""

    api: int  # of each web process
    worker: int
    page: int = 0  # of each web process, for the ops page; 0: it shares the API's

    def without_api(self) -> "ConnectionShares":
        """The same for processes of a deployment whose web processes serve callbacks alone."""
        return replace(self, api=_MIN_OF_WEB, page=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """How many connections are open at most: of a set, commands included, and of each process for callbacks alone."""

    of_set: int
    of_callbacks_process: int


def count_single_purpose(*, has_spool: bool) -> int:
    """The connections of a web process that are in no pool: of the inbox writer, the notifier and the spool's drain."""
    return 3 if has_spool else 2


def count_least_of_web(*, has_spool: bool) -> int:
    """The fewest connections that a web process works with: all that one for callbacks alone has."""
    return count_single_purpose(has_spool=has_spool) + _MIN_OF_WEB


def minimum(*, web_processes: int, has_spool: bool) -> int:
    """The smallest number of connections that a set can work with."""
    of_each = count_least_of_web(has_spool=has_spool)
    return FOR_COMMANDS + _OF_LISTENER + _MIN_OF_WORKER + web_processes * of_each


def one_each(*, send_concurrency: int) -> ConnectionShares:
    """A connection for each thread that may ask the database: more are of no use."""
    return ConnectionShares(api=_MAX_OF_API, worker=send_concurrency + _DUTIES, page=_MAX_OF_PAGE)


def share(
    connections: int, *, web_processes: int, has_spool: bool, send_concurrency: int, has_page: bool
) -> ConnectionShares:
    """Share out so many connections: two thirds of what has no single purpose go to the APIs, the rest to the worker.

    The ops page has one of its own in each web process where the API would have two or more. Raises ValueError below
    the minimum.
    """
    if connections < minimum(web_processes=web_processes, has_spool=has_spool):
        raise ValueError("too few connections to share out")
    single_purpose = web_processes * count_single_purpose(has_spool=has_spool) + _OF_LISTENER
    left = connections - FOR_COMMANDS - single_purpose
    most = one_each(send_concurrency=send_concurrency)
    page = int(has_page and _of_api(left, web_processes, most.api) > 1)
    left -= page * web_processes
    api = _of_api(left, web_processes, most.api)
    return ConnectionShares(api=api, worker=min(most.worker, left - api * web_processes), page=page)


def _of_api(left: int, web_processes: int, most: int) -> int:
    return min(most, max(1, left * 2 // 3 // web_processes), (left - _MIN_OF_WORKER) // web_processes)
