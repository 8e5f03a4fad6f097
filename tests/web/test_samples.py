"""Every sample of /docs runs as it stands, against a service with the ids of the examples."""

import csv
import io
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stdout, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from receiptsvc.dynmark.outbound.envelope import BUNDLED_WSDL
from receiptsvc.locations import PROJECT
from receiptsvc.server.event_streams import Stream
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from receiptsvc.web.docs import pages, reference, samples
from tests.support import examples, rows, stories
from tests.support.callers import ALL, make_settings
from tests.support.rows import seconds
from tests.support.serving import served

# What can be done once, or not with these examples; 404 and 409 say so of a request that was understood.
ONCE = re.compile(r"/(match|retry|dismiss|restore|resolve|acknowledge|reopen|cancel|remove)$|^DELETE ")

CONFLICT = re.compile(r'"status": (404|409)\b')


@pytest.fixture
def programs(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[str], Iterator[tuple[str, str]]]]:
    """Each call and its sample in a language, while a service runs at which they are aimed."""
    database = Database(sqlite_url)
    examples.fill(database)
    rows.accept(database, rows.message(text="a\u2028b\x85c\nd"))
    monkeypatch.chdir(tmp_path)  # where they write files
    monkeypatch.setenv(samples.KEY, ALL)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    apps = []

    def make(url: str) -> object:
        apps.append(create_app(make_settings(PUBLIC_URL=url, DYNMARK_WSDL=str(BUNDLED_WSDL)), database))
        return examples.with_ending_streams(apps[0])

    def find(language: str) -> Iterator[tuple[str, str]]:
        document = pages.document_of(apps[0], url)
        _, write = samples.LANGUAGES[language]
        for _, operations in reference.by_noun(document):
            for operation in operations:
                call = reference.call(document, operation)
                yield f"{operation['method']} {operation['path']}", write(call)

    with served(make) as url:
        yield find
    database.close()


def judge(found: dict[str, str]) -> None:
    """`found`: of each call that was refused, the service's words."""
    faults = {call: words for call, words in found.items() if not (ONCE.search(call) and CONFLICT.search(words))}
    assert not faults, "\n".join(f"{call}: {words}" for call, words in faults.items())


def read_output(name: str, printed: str) -> str:
    """What a sample gave: CSV is in a file, anything else was printed."""
    path = Path(name.rpartition("/")[2])
    return path.read_bytes().decode() if path.suffix == ".csv" else printed


@pytest.mark.slow
def test_the_samples_in_python_run(programs: Callable[[str], Iterator[tuple[str, str]]]) -> None:
    refused: dict[str, str] = {}
    for name, program in programs("Python"):
        printed = io.StringIO()
        try:
            with redirect_stdout(printed):
                exec(compile(program, name, "exec"), {})  # noqa: S102 - it is what is tested
        except SystemExit as refusal:
            refused[name] = str(refusal)
        else:
            assert read_output(name, printed.getvalue()).strip(), name
            if ".jsonl" in name:
                assert all(isinstance(json.loads(line), dict) for line in printed.getvalue().split("\n")[:-1])
            if ".csv" in name:
                assert len({len(row) for row in csv.reader(io.StringIO(read_output(name, ""), newline=""))}) == 1
    judge(refused)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_the_samples_for_curl_run(programs: Callable[[str], Iterator[tuple[str, str]]]) -> None:
    refused: dict[str, str] = {}
    for name, program in programs("curl"):
        strict = program.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)
        strict = strict.replace("--fail -o", "-o")  # curl takes only one of these
        done = subprocess.run(["sh", "-c", strict], capture_output=True, text=True, timeout=30, check=False)  # noqa: S607
        if done.returncode:
            refused[name] = done.stdout + done.stderr
        else:
            assert read_output(name, done.stdout).strip(), name
    judge(refused)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("node"), reason="there is no Node.js")
def test_the_samples_in_javascript_run(programs: Callable[[str], Iterator[tuple[str, str]]], tmp_path: Path) -> None:
    script = tmp_path / "samples.mjs"
    blocks = [
        f"try {{ await (async () => {{\n{program}\n}})(); }} catch (error) {{ refused[{json.dumps(name)}] = String(error); }}"
        for name, program in programs("JavaScript")
    ]
    script.write_text("\n".join(["const refused = {};", *blocks, "console.error(JSON.stringify(refused));"]))
    done = subprocess.run(["node", script], capture_output=True, text=True, timeout=60, check=True)  # noqa: S607
    judge(json.loads(done.stderr))


class Stopped(Exception):
    """Ends a program that goes on for ever."""


@pytest.mark.slow
def test_the_program_of_the_guide_follows_the_stream_and_resumes(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = re.search(r"(?s)### Follow the stream.*?```python\n(.*?)```", (PROJECT / "docs/receiving.md").read_text())
    assert program
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(samples.KEY, ALL)
    monkeypatch.setattr(time, "sleep", lambda _: (_ for _ in ()).throw(Stopped))  # as soon as a stream was cut
    place = Path("last-event-id")

    def follow() -> str:
        printed = io.StringIO()
        with served(make) as url, redirect_stdout(printed), suppress(Stopped):
            monkeypatch.setenv("RECEIPTSVC_URL", url)
            exec(compile(program[1], "receiving.md", "exec"), {})  # noqa: S102 - it is what is tested
        return printed.getvalue()

    def make(url: str) -> Callable[..., Any]:
        app = create_app(make_settings(PUBLIC_URL=url), database)

        def answer(environ: dict[str, Any], start_response: Any) -> Any:
            pieces = app(environ, start_response)
            return islice(pieces, 2) if isinstance(pieces, Stream) else pieces  # where it stands, and some events

        return answer

    with closing(Database(sqlite_url)) as database:
        rows.accept(database, rows.message(client_ref="a"))
        place.write_text("000000000000.000")
        assert re.fullmatch(r"status \{.*'clientRef': 'a'.*\}\n", follow())
        first = place.read_text()
        stories.reply(database, "a", seconds(9), content="Thanks\u2028a lot\x85!")
        assert re.fullmatch(r"reply \{.*'content': 'Thanks.*\}\n", follow())
        assert place.read_text() > first
        place.write_text("000000000009.000")
        with pytest.raises(SystemExit, match="Not every event"):
            follow()


def test_a_text_that_ends_quotes_stays_one_word_of_the_shell() -> None:
    call = samples.Call(
        method="POST", url="http://h/it's", needs_key=False, body={"text": "it's"}, answer_type=samples.JSON
    )
    echoed = samples.curl(call).replace("curl ", "printf '%s\\n' ", 1)
    done = subprocess.run(["sh", "-c", echoed], capture_output=True, text=True, check=True)  # noqa: S607
    assert done.stdout.splitlines() == [
        "http://h/it's",
        "-H",
        "Content-Type: application/json",
        "-d",
        '{"text": "it\'s"}',
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": [1, "b", None, True]}, '{"a": [1, "b", None, True]}'),
        ([], "[]"),
        ({"a": {"text": "x" * 60}}, '{\n  "a": {\n    "text": "' + "x" * 60 + '"\n  }\n}'),
        (["y" * 60], '[\n  "' + "y" * 60 + '"\n]'),
    ],
)
def test_a_value_stands_on_one_line_if_it_is_short(value: object, written: str) -> None:
    assert samples.layout(value, {"true": "True", "null": "None"}) == written
