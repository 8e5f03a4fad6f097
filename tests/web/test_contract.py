"""The API keeps to its OpenAPI document: schemathesis sends what the document allows, and much that it does not.

It asks the same in each run, in the long form more of it. `RECEIPTSVC_CONTRACT=200` makes up that many requests where the
usual run makes two, and others each time: five minutes.
"""

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from schemathesis.engine import events, from_schema

from receiptsvc.dynmark.outbound.envelope import BUNDLED_WSDL
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from receiptsvc.web.docs import reference
from tests.support import examples
from tests.support.callers import ALL, make_settings
from tests.support.forms import IS_LONG
from tests.support.serving import served

COUNT = os.environ.get("RECEIPTSVC_CONTRACT")
EXAMPLES = int(COUNT or (10 if IS_LONG else 2))

# What a schema can't say, and a request that keeps to its schema is refused for.
BEYOND_SCHEMAS = re.compile(
    r"Must be a nextCursor of this list; .*|Must lie in the years 1970 to 2999\.|There is no such time\."
    r"|Has gone by already\.|Must be before validUntil\.|Must be earlier than until\.|Must be at most \d+ days before .*"
    r"|Must be changed with changedSince\.|Must be clientRef or changed with .*|Can be clientRef only with .*"
    r"|Is no possible phone number.*|Is neither a phone number nor a short code\.|Must be at least the last 4 digits .*"
    r"|Must be a country's three letters .*|Holds characters that are not GSM, and rejectUnicode is set.*"
    r"|Can stand for one recipient only.*|Occurs twice in this request; .*|There is no message with this id\."
    r"|Belongs to another request already.*|Is nothing but blanks: .*|Must be 1 to 36 characters of ASCII.*|Has \d+ characters as the gateway counts them.*"
    r"|Can't be .* with what a receipt names: .*|Must be a list of words\.|Must be one or several of: .*"
    r"|Must be the name of a time zone, such as Europe/London\."
)

# What can be done once with each message or receipt: chance decides which of these finds one to do it with.
ONCE = re.compile(r"/(match|retry|dismiss|restore|resolve|acknowledge|reopen|cancel|remove)$|^DELETE ")

# Addresses that are also those of a clientRef or a number: what is allowed there is more than the one operation.
ALSO_READ = {"POST /v1/conversations/query", "POST /v1/recipients/query"}


@pytest.fixture
def url(desk_database: Database) -> Iterator[str]:
    """The URL of a served API whose database has a little of everything."""
    examples.fill(desk_database)
    app = create_app(make_settings(DYNMARK_WSDL=str(BUNDLED_WSDL)), desk_database)
    with served(lambda _: examples.with_ending_streams(app)) as url:
        yield url


def is_beyond_schemas(answer: Any) -> bool:
    """Whether a request was refused only for rules that a schema can't express."""
    if answer.status_code == 410:  # a Last-Event-ID must be one that was given
        return True
    faults = answer.json().get("errors", {}).values() if answer.status_code == 422 else ()
    return bool(faults) and all(BEYOND_SCHEMAS.fullmatch(text) for texts in faults for text in texts)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(0 if COUNT else 300)
def test_no_request_finds_a_fault(url: str) -> None:
    config = schemathesis.Config.from_dict(
        {
            "base-url": url,
            "headers": {"Authorization": f"Bearer {ALL}"},
            "generation": {"deterministic": not COUNT, "max-examples": EXAMPLES, "database": "none"},
            "continue-on-failure": True,
            "cache": {"enabled": False},  # of what was found before
        }
    )
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)

    @schema.hook
    def filter_failure(_context: Any, failure: Any, _case: Any, answer: Any) -> bool:
        if failure.title == "Allow header mismatch" and failure.operation in ALSO_READ:
            return False
        return not (type(failure).__name__ == "RejectedPositiveData" and is_beyond_schemas(answer))

    faults: dict[str, str] = {}
    unanswered = {
        f"{method.upper()} {path}"
        for path, methods in schema.raw_schema["paths"].items()
        for method in methods.keys() & set(reference.METHODS)
    }
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            for case, checks in event.recorder.checks.items():
                answer = event.recorder.interactions[case].response
                if answer is not None and answer.status_code < 300:
                    unanswered.discard(event.recorder.cases[case].value.operation.label)
                for found in [check.failure_info for check in checks if check.failure_info is not None]:
                    content = answer.content[:1000] if answer else b""
                    faults[f"{found.failure.operation} {found.failure.title}"] = f"{found.code_sample}\n{content!r}"
        elif isinstance(event, events.NonFatalError | events.FatalError):
            faults[f"{type(event).__name__} {len(faults)}"] = repr(event)
    assert not faults, "\n\n".join(f"{name}: {text}" for name, text in faults.items())
    assert not [call for call in unanswered if not ONCE.search(call)]
