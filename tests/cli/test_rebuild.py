"""`rebuild` as people and programs call it."""

import json

import pytest

from tests.cli.conftest import Run, Service


def test_rebuild_shows_the_difference_and_changes_it_only_with_apply(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = service.accept("Hello")
    service.report(message, statusid="77", statusdescription="Foo")
    assert run("rebuild").stdout == (
        f"no receipts would change in {service.database_name}; --apply puts them right\n"
        "1 receipt unmapped: code 77, which STATUS_MAP does not name\n"
    )
    monkeypatch.setenv("STATUS_MAP", '{"77": "delivered"}')
    line = "1 receipt with statusid 77, 'Foo': unmapped → delivered\n"
    assert (
        run("rebuild").stdout == line + f"1 receipt would change in {service.database_name}; --apply puts them right\n"
    )
    assert json.loads(run("rebuild", "--json").stdout) == {
        "applied": False,
        "differences": [{"statusId": "77", "description": "Foo", "was": "unmapped", "now": "delivered", "receipts": 1}],
        "replies": {"optOuts": 0, "optIns": 0, "links": 0, "times": 0, "suppressed": 0, "allowedAgain": 0},
        "conversations": 0,
    }
    assert run("rebuild", "--apply").stdout == line + f"1 receipt put right in {service.database_name}\n"
    assert run("rebuild").stdout == f"no receipts would change in {service.database_name}; --apply puts them right\n"
    assert run("verify").exit_code == 0
