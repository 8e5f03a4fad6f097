"""One formula shares out the connections, and no set of processes takes more than it was given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptsvc.connection_shares import (
    DEFAULT,
    FOR_COMMANDS,
    ConnectionShares,
    count_single_purpose,
    minimum,
    share,
)


@given(st.integers(1, 300), st.integers(1, 64), st.booleans(), st.integers(1, 32), st.booleans())
def test_no_set_takes_more_than_its_share(
    connections: int, web: int, has_spool: bool, senders: int, has_page: bool
) -> None:
    least = minimum(web_processes=web, has_spool=has_spool)
    if connections < least:
        with pytest.raises(ValueError, match="too few"):
            share(connections, web_processes=web, has_spool=has_spool, send_concurrency=senders, has_page=has_page)
        return
    shares = share(connections, web_processes=web, has_spool=has_spool, send_concurrency=senders, has_page=has_page)
    taken = web * (shares.api + shares.page + count_single_purpose(has_spool=has_spool)) + shares.worker + 1
    assert taken <= connections - FOR_COMMANDS
    assert shares.page <= has_page
    assert shares.api >= 1
    assert shares.worker >= 2
    more = share(connections + 1, web_processes=web, has_spool=has_spool, send_concurrency=senders, has_page=has_page)
    assert more.api >= shares.api


@pytest.mark.parametrize(
    ("connections", "web", "has_spool", "shares"),
    [
        (DEFAULT, 2, False, ConnectionShares(api=3, worker=3, page=1)),
        (DEFAULT, 2, True, ConnectionShares(api=2, worker=3, page=1)),
        (DEFAULT, 1, False, ConnectionShares(api=8, worker=4, page=1)),
        (DEFAULT, 4, False, ConnectionShares(api=1, worker=3)),
        (11, 2, False, ConnectionShares(api=1, worker=2)),
        (100, 2, False, ConnectionShares(api=18, worker=10, page=1)),
    ],
)
def test_it_is_shared_as_the_readme_shows(
    connections: int, web: int, has_spool: bool, shares: ConnectionShares
) -> None:
    assert share(connections, web_processes=web, has_spool=has_spool, send_concurrency=4, has_page=True) == shares


def test_without_the_page_the_others_have_its_connection() -> None:
    shares = share(DEFAULT, web_processes=2, has_spool=False, send_concurrency=4, has_page=False)
    assert shares == ConnectionShares(api=3, worker=5)
