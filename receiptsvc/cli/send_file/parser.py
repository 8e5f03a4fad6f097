"""A file of messages, read as a whole: CSV or JSON lines → what the API takes and the line of each, or all its faults.

It knows the two forms and a message's names; which values are fine is the service's to say. No fault repeats what
stands in the file: a line and a name say where to look.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from receiptsvc.domain.errors import ReceiptsvcError

FORMS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}  # by the end of a file's name

_FLAGS = ("rejectUnicode", "includeMessageText")
# fmt: off
_COLUMNS = (
    "recipient", "recipients", "text", "originator", "clientRef", "deliverAfter", "validUntil", "countryIsoCode",
    *_FLAGS, "filterSetName", "impersonateUserName", "messageGuid",
)
# fmt: on
_MEMBERS = (*_COLUMNS, "additionalOptions")
_FLAG_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_DELIMITERS = ",;\t"
_PATH = re.compile(r"messages\[([0-9]{1,9})\]\.?(.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Something wrong in a file. `line`: none for all of it; `field`: empty for the whole line."""

    line: int | None
    field: str = ""
    what: str

    def __str__(self) -> str:
        where = ", ".join(part for part in (f"line {self.line}" if self.line else "", self.field) if part)
        return f"{where}: {self.what}" if where else self.what


class InvalidFile(ReceiptsvcError):
    """A file that can't be sent as it is, with everything that is wrong with it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = sorted(faults, key=lambda fault: fault.line or 0)
        super().__init__(f"{len(faults)} faults")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One message of a file."""

    line: int  # where it begins, 1 for the first
    message: dict[str, Any]  # as the API takes it
    has_one: bool  # whether the file speaks of a recipient, not of recipients

    def field(self, path: str) -> str:
        """What the file calls a path within the message, such as `recipients[0]`."""
        return "recipient" if self.has_one and path.startswith("recipients") else path


def read(data: bytes, form: str) -> list[Row]:
    """The messages of a file, in its order; at least one. `form`: `csv` or `jsonl`. Raises Faulty."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InvalidFile([Fault(line=line, what="Is not UTF-8: save the file as UTF-8.")]) from None
    faults: list[Fault] = []
    rows = list((_read_csv if form == "csv" else _read_json_lines)(text, faults))
    faults += _faults(rows)
    if not rows and not faults:
        faults.append(Fault(line=None, what="There is no message in it."))
    if faults:
        raise InvalidFile(faults)
    return rows


def locate(rows: Sequence[Row], errors: Mapping[str, Any]) -> list[Fault]:
    """What the service says of messages by their paths, such as `messages[3].text`, as faults of their lines."""
    faults: list[Fault] = []
    for path, said in errors.items():
        found = _PATH.fullmatch(path)
        row = rows[int(found[1])] if found and int(found[1]) < len(rows) else None
        for what in map(str, said if isinstance(said, list) else [said]):
            if row is None or found is None:
                faults.append(Fault(line=None, field=path, what=what))
            else:
                faults.append(Fault(line=row.line, field=row.field(found[2]), what=what))
    return faults


def locate_warning(rows: Sequence[Row], said: str) -> tuple[int | None, str]:
    """The line of a warning that begins with a message's path, and the rest of it."""
    path, _, rest = said.partition(" ")
    found = _PATH.fullmatch(path)
    if found is None or int(found[1]) >= len(rows):
        return None, said
    return rows[int(found[1])].line, rest


def _faults(rows: Iterable[Row]) -> Iterator[Fault]:
    """What is wrong between the fields of a message, and between messages."""
    guids: dict[str, int] = {}
    for row in rows:
        if not row.message.get("recipients"):
            yield Fault(line=row.line, field="recipient", what="Is missing.")
        if row.message.get("text") in (None, ""):
            yield Fault(line=row.line, field="text", what="Is missing.")
        guid = row.message.get("messageGuid")
        if isinstance(guid, str) and guids.setdefault(guid, row.line) != row.line:
            yield Fault(line=row.line, field="messageGuid", what=f"Stands in line {guids[guid]} already.")


def _read_csv(text: str, faults: list[Fault]) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    names: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error:
            what = (
                "Is no CSV from here on: a text with commas, quotes or line breaks stands in double quotes, and a "
                "quote within it is doubled. The rest was not read."
            )
            faults.append(Fault(line=line, what=what))
            return
        if cells is None:
            return
        if not any(map(str.strip, cells)):
            continue
        if not names:
            names = _names(cells, line, faults)
            if not names:
                return
        elif len(cells) != len(names):
            what = f"Has {len(cells)} cells, and the header {len(names)}; a text with commas stands in double quotes."
            faults.append(Fault(line=line, what=what))
        else:
            yield _row(dict(zip(names, cells, strict=True)), line, faults)


def _delimiter(text: str) -> str:
    """What parts the columns: no name holds any of them, so the one that stands most often in the first line does."""
    header = text.lstrip().partition("\n")[0]
    return max(_DELIMITERS, key=header.count)


def _names(cells: Sequence[str], line: int, faults: list[Fault]) -> list[str]:
    """The columns' names in the API's spelling; none at all if there is a fault in them."""
    known = {name.lower(): name for name in _COLUMNS}
    names: list[str] = []
    wrong: list[Fault] = []
    for place, cell in enumerate(cells, start=1):
        given = cell.strip().lower()
        name = known.get(given, "")
        if not name:
            where = f"column {place}"
            wrong.append(Fault(line=line, field=where, what=_unknown(given, _COLUMNS, "the header names the columns")))
        elif name in names:
            wrong.append(Fault(line=line, field=name, what="Stands in the header twice."))
        names.append(name)
    if {"recipient", "recipients"} <= set(names):
        wrong.append(Fault(line=line, what="Has columns for recipient and recipients; leave one of them out."))
    if "" not in names:  # else it may just be misspelt
        missing = [name for name in ("recipient", "text") if not {name, f"{name}s"} & set(names)]
        wrong += [Fault(line=line, field=name, what="The header has no column of this name.") for name in missing]
    faults += wrong
    return [] if wrong else names


def _row(cells: Mapping[str, str], line: int, faults: list[Fault]) -> Row:
    message: dict[str, Any] = {}
    for name, cell in cells.items():
        given = cell if name == "text" else cell.strip()
        if not given:
            continue
        if name == "recipient":
            message["recipients"] = [given]
        elif name == "recipients":
            message["recipients"] = [number for number in map(str.strip, re.split("[;,]", given)) if number]
        elif name not in _FLAGS:
            message[name] = given
        elif given.lower() in _FLAG_WORDS:
            message[name] = _FLAG_WORDS[given.lower()]
        else:
            faults.append(Fault(line=line, field=name, what="Must be true or false, or empty."))
    return Row(line=line, message=message, has_one="recipient" in cells)


def _read_json_lines(text: str, faults: list[Fault]) -> Iterator[Row]:
    for line, written in enumerate(text.split("\n"), start=1):
        if not written.strip():
            continue
        try:
            given = json.loads(written, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            faults.append(Fault(line=line, what=f"Is not JSON: column {error.colno}."))
        except (ValueError, RecursionError):
            what = "Holds a number that JSON does not have or that is too long, or is nested too deeply."
            faults.append(Fault(line=line, what=what))
        else:
            if isinstance(given, dict):
                yield from _member_row(given, line, faults)
            else:
                faults.append(Fault(line=line, what='Must be an object such as {"recipient": "…", "text": "…"}.'))


def _member_row(given: dict[str, Any], line: int, faults: list[Fault]) -> Iterator[Row]:
    for place, name in enumerate(given, start=1):
        if name not in _MEMBERS:
            faults.append(Fault(line=line, field=f"member {place}", what=_unknown(name.lower(), _MEMBERS)))
    if given.get("recipient") is not None and given.get("recipients") is not None:
        faults.append(Fault(line=line, what="Has a recipient and recipients; leave one of them out."))
    message = {name: value for name, value in given.items() if name in _MEMBERS and name != "recipient"}
    if has_one := given.get("recipient") is not None:
        message["recipients"] = [given["recipient"]]
    yield Row(line=line, message=message, has_one=has_one)


def _unknown(name: str, known: Sequence[str], but: str = "") -> str:
    """That a name is not known, without repeating it: without a header the first line holds numbers and texts."""
    if name == "additionaloptions":
        return "additionalOptions can stand in JSON lines only."
    nearest = get_close_matches(name[:64], {one.lower(): one for one in known}, n=1, cutoff=0.6)
    spelt = next((one for one in known if nearest and one.lower() == nearest[0]), None)
    known_names = f"the nearest known name is {spelt}" if spelt else f"the known names are {', '.join(known)}"
    return "Is no name that is known here; " + (f"{but}, and " if but else "") + known_names + "."


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError
