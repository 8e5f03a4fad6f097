"""`send --file` against the real API: checked as a whole, sent in chunks, resumed after any interruption."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from threading import Thread

import pytest
import requests
from sqlalchemy import select
from werkzeug.wrappers import Response

from receiptsvc.cli.send_file import bulk_sender, command
from receiptsvc.domain.backoff import Backoff
from receiptsvc.store.core.models import Message
from tests.cli.conftest import KEY, READER, WAITS, Run, Service
from tests.support.processes import until

NUMBER = "447700900001"


@pytest.fixture(autouse=True)
def _short_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pauses between retries short."""
    monkeypatch.setattr(bulk_sender, "_GAPS", Backoff.doubling(timedelta(seconds=0.01), timedelta(seconds=30)))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of two messages."""
    monkeypatch.setattr(bulk_sender, "MAX_MESSAGES", 2)


def write(folder: Path, *texts: str, name: str = "messages.csv") -> Path:
    """A file with one message for each text."""
    path = folder / name
    lines = (f"{int(NUMBER) + index},{text}\n" for index, text in enumerate(texts))
    path.write_text("recipient,text\n" + "".join(lines))
    return path


def state_of(path: Path) -> Path:
    return path.with_name(path.name + ".receiptsvc.json")


@pytest.mark.usefixtures("small_chunks")
def test_a_file_is_sent_in_its_order_and_summed_up(service: Service, run: Run, tmp_path: Path) -> None:
    path = write(tmp_path, "a", "b", "c", "d", "e")
    result = run("send", "--file", str(path))
    assert (result.exit_code, result.stderr) == (0, WAITS)
    assert service.texts() == ["a", "b", "c", "d", "e"]
    heading, *table = [line.split() for line in result.stdout.splitlines()]
    assert heading[:3] == ["Sent", "5", "messages"]
    assert table == [["status", "messages"], ["accepted", "5"]]
    state = state_of(path)
    assert state.stat().st_mode & 0o777 == 0o600
    assert NUMBER not in state.read_text()


def test_a_file_that_was_sent_is_sent_again_only_with_again(service: Service, run: Run, tmp_path: Path) -> None:
    path = write(tmp_path, "a", "b")
    first = json.loads(run("send", "--file", str(path), "--json").stdout)
    assert (first["sentNow"], first["messages"], first["statuses"]) == (2, 2, {"accepted": 2})
    service.report(first["ids"][0], statusdescription="delivered")
    again = run("send", "--file", str(path))
    assert again.exit_code == 0
    assert "was sent before" in again.stdout
    assert "nothing was sent now" in again.stdout
    table = again.stdout[again.stdout.index("status ") :]
    assert {line.split()[0] for line in table.splitlines()} == {"status", "accepted", "delivered"}
    assert json.loads(run("send", "--file", str(path), "--json").stdout)["sentNow"] == 0
    assert len(service.texts()) == 2
    assert run("send", "--file", str(path), "--again").exit_code == 0
    assert service.texts() == ["a", "b", "a", "b"]


def test_json_lines_and_standard_input_are_sent_too(
    service: Service, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "DATA", tmp_path / "data")
    lines = f'{{"recipients": ["{NUMBER}", "447700900002"], "text": "both", "clientRef": "r"}}\n'
    path = tmp_path / "messages.ndjson"
    path.write_text(lines)
    assert run("send", "--file", str(path)).exit_code == 0
    assert service.texts() == ["both", "both"]
    arguments = ("send", "--file", "-", "--format", "jsonl")
    assert "--job NAME is needed" in run(*arguments, stdin=lines.encode()).stderr
    assert run(*arguments, "--job", "../x", stdin=lines.encode()).exit_code == 2
    for _ in range(2):
        assert run(*arguments, "--job", "mailing-1", stdin=lines.encode()).exit_code == 0
    assert len(service.texts()) == 4
    assert [each.name for each in (tmp_path / "data" / "jobs").iterdir()] == ["mailing-1.receiptsvc.json"]


@pytest.mark.usefixtures("small_chunks")
def test_every_fault_of_every_chunk_is_listed_by_its_line_and_nothing_is_sent(
    service: Service, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "messages.csv"
    path.write_text(
        "recipient,text,validUntil\n"
        f"{NUMBER},fine,\n"
        "12,a secret text,soon\n"
        f'{NUMBER},"two\nlines",\n'
        f"{NUMBER},{'x' * 10_001},\n"
        "4477009000011111111111,a secret text,\n"
    )
    result = run("send", "--file", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    heading, *faults = result.stderr.splitlines()
    assert heading.endswith("messages.csv has 4 faults: nothing was sent.")
    assert [fault.split(":")[0].strip() for fault in faults] == [
        "line 3, recipient",
        "line 3, validUntil",
        "line 6, text",
        "line 7, recipient",
    ]
    assert not [word for word in ("secret", "4477", "xxx", "soon") if word in result.stderr.replace(str(path), "")]
    by_json = run("send", "--file", str(path), "--json")
    assert by_json.exit_code == 1
    assert [fault["line"] for fault in json.loads(by_json.stdout)["faults"]] == [3, 3, 6, 7]
    assert service.texts() == []
    assert not state_of(path).exists()


def test_faults_of_the_form_are_listed_without_the_service(environ: dict[str, str], run: Run, tmp_path: Path) -> None:
    assert environ
    path = tmp_path / "messages.csv"
    path.write_bytes(b"recipient,text\n447700900001,\xff\xfe\x81\n")
    result = run("send", "--file", str(path))
    assert result.exit_code == 1
    assert "  line 2: Is not UTF-8" in result.stderr


def test_a_message_guid_that_was_used_before_is_a_fault_of_its_line(service: Service, run: Run, tmp_path: Path) -> None:
    used = service.accept("before", message_guid="guid-1")
    path = tmp_path / "messages.csv"
    path.write_text(f"recipient,text,messageGuid\n{NUMBER},a,\n{NUMBER},b,guid-1\n")
    result = run("send", "--file", str(path))
    assert result.exit_code == 1
    assert f"  line 3, messageGuid: Was used before, by {used}." in result.stderr
    assert service.texts() == ["before"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--file", "FILE", "--text", "x"),
        ("--file", "FILE", "--idempotency-key", "x"),
        ("--file", "no-such-file.csv"),
        ("--file", "FILE.txt"),
        ("--to", NUMBER, "--text", "x", "--again"),
        ("--to", NUMBER, "--text", "x", "--job", "x"),
        ("--to", NUMBER, "--text", "x", "--columns", "recipient=a"),
        ("--to", NUMBER, "--text", "x", "--duplicates", "first"),
        ("--to", NUMBER, "--text", "x", "--encoding", "utf-8"),
        ("--file", "FILE", "--from", "ACME"),
        ("--file", "FILE", "--columns", "recipient"),
        ("--file", "FILE", "--columns", "number=phone"),
        ("--file", "FILE", "--columns", "recipient=phone"),
        ("--file", "FILE", "--columns", "text=a,recipient=a"),
        ("--file", "FILE", "--columns", 'text="a'),
        ("--file", "FILE", "--text", "((name"),
        ("--file", "-", "--format", "csv", "--text", "-"),
        ("--to", NUMBER),
        ("--text", "x"),
        (),
    ],
)
def test_wrong_use_ends_with_2(service: Service, run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = write(tmp_path, "a")
    path.with_name("FILE.txt").write_text("a")
    paths = {"FILE": str(path), "FILE.txt": str(tmp_path / "FILE.txt")}
    assert run("send", *(paths.get(argument, argument) for argument in arguments)).exit_code == 2
    assert service.texts() == []


@pytest.mark.usefixtures("small_chunks")
def test_a_file_that_has_changed_since_it_was_sent_is_refused(service: Service, run: Run, tmp_path: Path) -> None:
    path = write(tmp_path, "a")
    assert run("send", "--file", str(path)).exit_code == 0
    write(tmp_path, "b")
    result = run("send", "--file", str(path))
    assert result.exit_code == 1
    assert "has changed since it was sent" in result.stderr
    assert "--again" in result.stderr
    assert service.texts() == ["a"]
    assert run("send", "--file", str(path), "--again").exit_code == 0
    assert service.texts() == ["a", "b"]


def answers(*responses: Response | None) -> Callable[[], Response | None]:
    """A function that returns these responses one after the other, and then None."""
    remaining = iter(responses)
    return lambda: next(remaining, None)


@pytest.mark.usefixtures("small_chunks")
def test_lost_answers_and_passing_errors_are_retried_and_nothing_is_sent_twice(
    service: Service, run: Run, tmp_path: Path
) -> None:
    service.interference.after = answers(Response(status=502), Response("<html>", 504), None, Response(status=500))
    service.interference.before = answers(None, Response("{}", 409, {"Retry-After": "0"}), Response("{}", 503))
    texts = [f"text {number}" for number in range(7)]
    result = run("send", "--file", str(write(tmp_path, *texts)))
    assert (result.exit_code, result.stderr) == (0, WAITS)
    assert service.texts() == texts


@pytest.mark.usefixtures("small_chunks")
def test_it_gives_up_after_a_while_and_resumes_when_it_is_run_again(
    service: Service, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_sender, "SEND_PATIENCE_SECONDS", 0.1)
    tries = count()
    service.interference.after = lambda: Response(status=502) if next(tries) else None  # only the first answer comes
    path = write(tmp_path, "a", "b", "c", "d", "e")
    result = run("send", "--file", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "2 of 5 messages were taken for certain. Run the same command again to continue" in result.stderr
    assert service.texts() == ["a", "b", "c", "d"], "the answer was lost, the messages were taken"

    write(tmp_path, "a", "b", "c", "d", "x")
    changed = run("send", "--file", str(path))
    assert changed.exit_code == 1
    assert "put the old content back" in changed.stderr

    write(tmp_path, "a", "b", "c", "d", "e")
    service.interference.after = lambda: None
    again = run("send", "--file", str(path))
    assert (again.exit_code, again.stderr) == (0, WAITS)
    assert "Sent the last 3 of 5 messages" in again.stdout
    assert [line.split() for line in again.stdout.splitlines()[1:]] == [["status", "messages"], ["accepted", "5"]]
    assert service.texts() == ["a", "b", "c", "d", "e"]


@pytest.mark.usefixtures("small_chunks")
def test_an_unclear_chunk_is_not_sent_with_another_key(
    service: Service, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_sender, "SEND_PATIENCE_SECONDS", 0.05)
    service.interference.after = lambda: Response(status=502)
    path = write(tmp_path, "a", "b", "c")
    assert run("send", "--file", str(path)).exit_code == 1
    service.interference.after = lambda: None
    with monkeypatch.context() as patch:
        patch.setenv("RECEIPTSVC_API_KEY", "another-key-that-may-send")
        result = run("send", "--file", str(path))
    assert result.exit_code == 1
    assert "line 2 and some after it were offered with another RECEIPTSVC_API_KEY" in result.stderr
    assert run("send", "--file", str(path)).exit_code == 0
    assert service.texts() == ["a", "b", "c"]


@pytest.mark.usefixtures("small_chunks")
def test_a_refused_chunk_says_from_which_line_on_nothing_was_sent(service: Service, run: Run, tmp_path: Path) -> None:
    problem = json.dumps({"title": "Unprocessable", "errors": {"messages[1].validUntil": ["Has gone by already."]}})
    service.interference.before = answers(None, Response(problem, 422))
    path = write(tmp_path, "a", "b", "c", "d", "e")
    result = run("send", "--file", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "2 messages before line 4 went out, and nothing from there on" in result.stderr
    assert "  line 5, validUntil: Has gone by already." in result.stderr
    assert service.texts() == ["a", "b"]


@pytest.mark.parametrize("key", [READER, "nobody's-key-at-all"])
def test_a_key_that_may_not_send_is_wrong_use(
    service: Service, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("RECEIPTSVC_API_KEY", key)
    result = run("send", "--file", str(write(tmp_path, "a")))
    assert result.exit_code == 2
    assert result.stderr.endswith("Nothing was sent.\n")
    assert service.texts() == []


def test_an_unreachable_service_ends_with_nothing_was_sent(
    environ: dict[str, str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environ
    monkeypatch.setattr(bulk_sender, "CHECK_PATIENCE_SECONDS", 0.05)
    monkeypatch.setenv("RECEIPTSVC_URL", "http://127.0.0.1:9")
    path = write(tmp_path, "a")
    result = run("send", "--file", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "can't be reached: nothing listens there; nothing was sent" in result.stderr
    assert not state_of(path).exists()


@pytest.mark.usefixtures("small_chunks")
def test_a_dry_run_shows_what_a_file_costs_and_sends_nothing(service: Service, run: Run, tmp_path: Path) -> None:
    path = write(tmp_path, "plain", "it\u2019s", "x" * 161, "that\u2019s", "plain")
    result = run("send", "--file", str(path), "--dry-run")
    assert (result.exit_code, result.stderr) == (0, "")
    heading, _, warning, last = result.stdout.splitlines()
    assert heading == "5 messages (3 in GSM, 2 in UTF-16), 6 segments to pay for."
    assert warning.split()[:4] == ["2", "3,", "5", "U+2019"]
    assert "would keep it GSM" in warning
    assert last == "Nothing was sent."
    cost = json.loads(run("send", "--file", str(path), "--dry-run", "--json").stdout)
    assert (cost["messages"], cost["segments"], cost["encodings"]) == (5, 6, {"GSM": 3, "UTF-16": 2})
    assert [(entry["messages"], entry["lines"]) for entry in cost["warnings"]] == [(2, [3, 5])]
    assert service.texts() == []
    assert not state_of(path).exists()


def test_a_dry_run_of_a_text_shows_what_it_costs(service: Service, run: Run) -> None:
    arguments = ("send", "--to", NUMBER, "--to", "447700900002", "--text", "it\u2019s", "--dry-run")
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split()[:4] for line in result.stdout.splitlines()[1:3]] == [
        [NUMBER, "UTF-16", "1", "U+2019"],
        ["447700900002", "UTF-16", "1", "U+2019"],
    ]
    assert result.stdout.endswith("2 messages, 2 segments to pay for. Nothing was sent.\n")
    assert len(json.loads(run(*arguments, "--json").stdout)["messages"]) == 2
    assert service.texts() == []


def test_a_send_that_is_run_again_with_its_key_is_sent_once(service: Service, run: Run) -> None:
    arguments = ("send", "--to", NUMBER, "--text", "x", "--idempotency-key", "k-1", "--json")
    first, again = (json.loads(run(*arguments).stdout)["messages"] for _ in range(2))
    assert first == again
    assert service.texts() == ["x"]


def test_a_send_whose_end_is_not_known_names_the_key_to_run_it_again_with(service: Service, run: Run) -> None:
    arguments = ("send", "--to", NUMBER, "--text", "x")
    service.interference.after = lambda: Response(status=503)  # it was taken, and the answer says nothing of that
    result = run(*arguments)
    assert result.exit_code == 1
    (key,) = re.findall(r"Run the same again with --idempotency-key (\w+), and it goes out once only\.", result.stderr)
    service.interference.after = lambda: None
    assert run(*arguments, "--idempotency-key", key).exit_code == 0
    assert service.texts() == ["x"]
    refused = run("send", "--to", "1", "--text", "x")
    assert (refused.exit_code, "--idempotency-key" in refused.stderr) == (2, False)


def in_background(function: Callable[[], object]) -> Thread:
    thread = Thread(target=function)
    thread.start()
    return thread


def deliver_all(service: Service, number: int) -> None:
    """Report each message as delivered, once `number` of them are there."""
    until("all are there", lambda: len(service.texts()) == number)
    for message in service.ids():
        service.report(message, statusdescription="delivered")


def test_wait_follows_the_receipts_until_all_are_final(service: Service, run: Run, tmp_path: Path) -> None:
    path = write(tmp_path, *(f"text {number}" for number in range(30)))  # more than are read one by one
    gateway = in_background(lambda: deliver_all(service, 30))
    result = run("send", "--file", str(path), "--json", "--wait", "60")
    gateway.join()
    assert result.exit_code == 0
    assert json.loads(result.stdout)["statuses"] == {"delivered": 30}


@pytest.mark.usefixtures("small_chunks")
def test_at_a_terminal_the_progress_bar_starts_at_what_was_sent_before(
    service: Service, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "a", "b", "c")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal

    def shown(*more: str) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", run("send", "--file", str(path), *more).stderr)

    requests = count()
    service.interference.before = lambda: Response(status=400) if next(requests) else None  # after the first chunk
    assert "3/3 messages checked" in shown()
    service.interference.before = lambda: None
    resumed = shown("--wait", "0")
    assert "2/3 messages sent" in resumed
    assert "3/3 messages sent" in resumed
    assert re.search(r"status +messages", resumed), "and then it follows the receipts"
    assert len(service.texts()) == 3


def test_wait_of_a_text_shows_its_final_status(service: Service, run: Run) -> None:
    gateway = in_background(lambda: deliver_all(service, 1))
    result = run("send", "--to", NUMBER, "--text", "x", "--wait")
    gateway.join()
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].split()[2] == "delivered"


def test_wait_ends_with_1_if_some_are_not_final_in_time(service: Service, run: Run, tmp_path: Path) -> None:
    result = run("send", "--file", str(write(tmp_path, "a")), "--wait", "0")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].split() == ["accepted", "1"]
    assert service.texts() == ["a"]


class Killer:
    """Kills the sending process at one moment of a run. Moments are counted from 0: each request has two, before and after."""

    def __init__(self) -> None:
        self.victim: subprocess.Popen[bytes] | None = None
        self._moments: Iterator[int] = count()
        self._moment: int | None = None

    def start_run(self, moment: int | None) -> None:
        """Begin a new run, and kill it at `moment`; None: never."""
        self._moments, self._moment, self.victim = count(), moment, None

    def __call__(self) -> None:
        if next(self._moments) == self._moment:
            until("its process is known", lambda: self.victim is not None)
            assert self.victim is not None
            self.victim.send_signal(signal.SIGKILL)
            self.victim.wait()


@pytest.mark.slow
def test_killed_at_any_point_and_run_again_it_sends_each_message_once(service: Service, tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(1100)]  # five chunks
    path = write(tmp_path, *texts)
    killer = Killer()
    service.interference.before = service.interference.after = killer
    command = [sys.executable, "-m", "receiptsvc", "send", "--file", str(path), "--json"]
    for moment in (0, 1, 2, 3, 1, 2, None):
        killer.start_run(moment)
        process = subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        killer.victim = process
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == (0 if moment is None else -signal.SIGKILL), stderr.decode()
    assert Counter(service.texts()) == Counter(texts)
    summary = json.loads(stdout)
    assert 0 < summary["sentNow"] < len(texts)
    assert (summary["messages"], summary["statuses"]) == (1100, {"accepted": 1100})
    assert summary["ids"] == service.ids()


TEXTS = ["=1+1", "'=", "plain", '"quoted", and\r\nbroken', "+44 is us", "''+", " blanks ", "caf\u00e9 \U0001f600", "'"]


@pytest.mark.parametrize("name", ["messages.csv", "messages.csv?bom=true&timezone=Europe/London", "messages.jsonl"])
def test_what_the_export_writes_is_read_back(service: Service, run: Run, tmp_path: Path, name: str) -> None:
    for serial, text in enumerate(TEXTS):
        service.accept(
            text, f"44770090{serial:04}", client_ref=f"=r/{serial}", originator=[None, "+4477009"][serial % 2]
        )
    exported = requests.get(f"{service.url}/v1/export/{name}", headers={"Authorization": f"Bearer {KEY}"}, timeout=20)
    path = tmp_path / f"export.{name.partition('.')[2].partition('?')[0]}"
    path.write_bytes(exported.content)
    result = run("send", "--file", str(path))
    assert (result.exit_code, result.stderr) == (0, WAITS)
    assert "that are not sent: id, createdAt, status, statusAt, conflict, transactionID" in result.stdout
    with service.database.reading() as session:
        columns = (Message.recipient, Message.text, Message.client_ref, Message.originator)
        sent = [tuple(row) for row in session.execute(select(*columns).order_by(Message.id))]
    assert len(sent) == 2 * len(TEXTS)
    assert sorted(sent[: len(TEXTS)], key=str) == sorted(sent[len(TEXTS) :], key=str)


def test_a_foreign_file_is_sent_with_a_text_for_each_person(service: Service, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(
        "Nr;Phone;First name;Parcel\r\n1;447700900001;Jane;P-1\r\n2;447700900002;Jos\u00e9;P-22\r\n"
        "3;447700900003;Jo;P-3\r\n4;447700900004;Al;P-4\r\n".encode("cp1252")
    )
    arguments = (
        *("send", "--file", str(path), "--columns", "recipient=phone"),
        *("--text", "Dear ((first name)), your parcel ((parcel)) is here."),
    )
    dry = run(*arguments, "--dry-run")
    assert (dry.exit_code, dry.stderr) == (0, "")
    shown = dry.stdout.splitlines()
    assert shown[1:7] == [
        "The longest text, of line 3, has 36 characters, 1 segment in GSM:",
        "  Dear Jos\u00e9, your parcel P-22 is here.",
        "Examples:",
        "  line 2: Dear Jane, your parcel P-1 is here.",
        "  line 3: Dear Jos\u00e9, your parcel P-22 is here.",
        "  line 4: Dear Jo, your parcel P-3 is here.",
    ]
    assert "windows-1252" in dry.stdout
    assert "columns that are not sent: 1" in dry.stdout
    told = json.loads(run(*arguments, "--dry-run", "--json").stdout)
    assert told["longest"]["line"] == 3
    assert [example["line"] for example in told["examples"]] == [2, 3, 4]
    assert service.texts() == []
    assert run(*arguments).exit_code == 0
    assert service.texts()[1] == "Dear Jos\u00e9, your parcel P-22 is here."
    assert len(service.texts()) == 4
    again = run(*arguments)
    assert "was sent before" in again.stdout
    other = run(*arguments[:-1], "Another text for ((first name))")
    assert other.exit_code == 1
    assert "or the options with it" in other.stderr
    assert len(service.texts()) == 4


def test_the_same_person_twice_is_told_and_left_out_on_request(service: Service, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "messages.csv"
    path.write_text(f"recipient,text\n{NUMBER},a\n447700900002,b\n+44 7700 900001,c\n")
    refused = run("send", "--file", str(path), "--duplicates", "refuse")
    assert refused.exit_code == 1
    assert "  line 4, recipient: Is the same person as in line 2." in refused.stderr
    told = json.loads(run("send", "--file", str(path), "--dry-run", "--json").stdout)
    assert told["warnings"] == [{"warning": "the same person as in line 2", "messages": 2, "lines": [2, 4]}]
    sent = run("send", "--file", str(path), "--duplicates", "first")
    assert sent.exit_code == 0
    assert "only the first was kept" in sent.stdout
    assert service.texts() == ["a", "b"]
