"""Parses a file of messages (CSV or JSON lines) as a whole: into the API's messages with their lines, or all faults.

It knows the two forms and the names of a message's fields; the service checks the values. No fault quotes the file's
content: a line and a name say where to look.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from receiptsvc.cli.terminal.message_fields import MESSAGE_FIELDS
from receiptsvc.domain import references
from receiptsvc.domain.errors import ReceiptsvcError

FORMS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}  # by the file's extension

_FLAGS = tuple(field.name for field in MESSAGE_FIELDS if field.is_flag)
_COLUMNS = ("recipient", "recipients", "text", *(field.name for field in MESSAGE_FIELDS))
_MEMBERS = (*_COLUMNS, "additionalOptions")
_FLAG_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_DELIMITERS = ",;\t"
_PATH = re.compile(r"messages\[([0-9]{1,9})\]\.?(.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One fault in a file. `line`: None for the whole file; `field`: empty for the whole line."""

    line: int | None
    field: str = ""
    what: str

    def __str__(self) -> str:
        where = ", ".join(part for part in (f"line {self.line}" if self.line else "", self.field) if part)
        return f"{where}: {self.what}" if where else self.what


class InvalidFile(ReceiptsvcError):
    """The file can't be sent as it is. `faults`: all of them, by line."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = sorted(faults, key=lambda fault: fault.line or 0)
        super().__init__(f"{len(faults)} faults")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One message of a file."""

    line: int  # where it begins, from 1
    message: dict[str, Any]  # as the API takes it
    has_single_recipient: bool  # whether the file's field is `recipient`, not `recipients`

    def field(self, path: str) -> str:
        """The file's name for a path within the message, such as `recipients[0]`."""
        return "recipient" if self.has_single_recipient and path.startswith("recipients") else path


def read(data: bytes, form: str) -> list[Row]:
    """The messages of a file, in its order, at least one. `form`: `csv` or `jsonl`. Raises InvalidFile."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InvalidFile([Fault(line=line, what="Is not UTF-8: save the file as UTF-8.")]) from None
    faults: list[Fault] = []
    rows = list((_read_csv if form == "csv" else _read_json_lines)(text, faults))
    faults += _find_faults(rows)
    if not rows and not faults:
        faults.append(Fault(line=None, what="There is no message in it."))
    if faults:
        raise InvalidFile(faults)
    return rows


def locate(rows: Sequence[Row], errors: Mapping[str, Any]) -> list[Fault]:
    """The service's errors by path, such as `messages[3].text`, as faults of the file's lines."""
    faults: list[Fault] = []
    for path, texts in errors.items():
        match = _PATH.fullmatch(path)
        row = rows[int(match[1])] if match and int(match[1]) < len(rows) else None
        for text in map(str, texts if isinstance(texts, list) else [texts]):
            if row is None or match is None:
                faults.append(Fault(line=None, field=path, what=text))
            else:
                faults.append(Fault(line=row.line, field=row.field(match[2]), what=text))
    return faults


def locate_warning(rows: Sequence[Row], warning: str) -> tuple[int | None, str]:
    """Replace the message's path at the start of a warning by its line. None: it has no path, and stays whole."""
    path, _, rest = warning.partition(" ")
    match = _PATH.fullmatch(path)
    if match is None or int(match[1]) >= len(rows):
        return None, warning
    return rows[int(match[1])].line, rest


def _find_faults(rows: Iterable[Row]) -> Iterator[Fault]:
    """Missing fields, and messageGuids that are used twice."""
    guids: dict[str, int] = {}
    for row in rows:
        if not row.message.get("recipients"):
            yield Fault(line=row.line, field="recipient", what="Is missing.")
        if row.message.get("text") in (None, ""):
            yield Fault(line=row.line, field="text", what="Is missing.")
        guid = row.message.get("messageGuid")
        key = references.guid_key(guid) if isinstance(guid, str) else ""
        if key and guids.setdefault(key, row.line) != row.line:
            yield Fault(line=row.line, field="messageGuid", what=f"Is used in line {guids[key]} already.")


def _read_csv(text: str, faults: list[Fault]) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    names: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error:
            what = (
                "Is not CSV from here on: put a text with commas, quotes or line breaks into double quotes, and double "
                "each quote within it. The rest was not read."
            )
            faults.append(Fault(line=line, what=what))
            return
        if cells is None:
            return
        if not any(map(str.strip, cells)):
            continue
        if not names:
            names = _read_header(cells, line, faults)
            if not names:
                return
        elif len(cells) != len(names):
            what = f"Has {len(cells)} cells, and the header {len(names)}; put a text with commas into double quotes."
            faults.append(Fault(line=line, what=what))
        else:
            yield _row_of_cells(dict(zip(names, cells, strict=True)), line, faults)


def _delimiter(text: str) -> str:
    """The delimiter that occurs most often in the header: no column's name holds any of them."""
    header = text.lstrip().partition("\n")[0]
    return max(_DELIMITERS, key=header.count)


def _read_header(cells: Sequence[str], line: int, faults: list[Fault]) -> list[str]:
    """The columns' names in the API's spelling; empty if the header has a fault, which is added to `faults`."""
    known = {name.lower(): name for name in _COLUMNS}
    names: list[str] = []
    header_faults: list[Fault] = []
    for number, cell in enumerate(cells, start=1):
        lowered = cell.strip().lower()
        name = known.get(lowered, "")
        if not name:
            what = _describe_unknown(lowered, _COLUMNS, "the header names the columns")
            header_faults.append(Fault(line=line, field=f"column {number}", what=what))
        elif name in names:
            header_faults.append(Fault(line=line, field=name, what="Occurs twice in the header."))
        names.append(name)
    if {"recipient", "recipients"} <= set(names):
        header_faults.append(Fault(line=line, what="Has columns for recipient and recipients; leave one of them out."))
    if "" not in names:  # an unknown name may be the missing one, misspelt
        missing = [name for name in ("recipient", "text") if not {name, f"{name}s"} & set(names)]
        what = "The header has no column of this name."
        header_faults += [Fault(line=line, field=name, what=what) for name in missing]
    faults += header_faults
    return [] if header_faults else names


def _row_of_cells(cells: Mapping[str, str], line: int, faults: list[Fault]) -> Row:
    message: dict[str, Any] = {}
    for name, cell in cells.items():
        value = cell if name == "text" else cell.strip()
        if not value:
            continue
        if name == "recipient":
            message["recipients"] = [value]
        elif name == "recipients":
            message["recipients"] = [number for number in map(str.strip, re.split("[;,]", value)) if number]
        elif name not in _FLAGS:
            message[name] = value
        elif value.lower() in _FLAG_WORDS:
            message[name] = _FLAG_WORDS[value.lower()]
        else:
            faults.append(Fault(line=line, field=name, what="Must be true or false, or empty."))
    return Row(line=line, message=message, has_single_recipient="recipient" in cells)


def _read_json_lines(text: str, faults: list[Fault]) -> Iterator[Row]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            value = json.loads(content, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            faults.append(Fault(line=line, what=f"Is not JSON: column {error.colno}."))
        except (ValueError, RecursionError):
            what = "Holds a number that JSON does not have or that is too long, or is nested too deeply."
            faults.append(Fault(line=line, what=what))
        else:
            if isinstance(value, dict):
                yield _row_of_members(value, line, faults)
            else:
                faults.append(Fault(line=line, what='Must be an object such as {"recipient": "…", "text": "…"}.'))


def _row_of_members(members: dict[str, Any], line: int, faults: list[Fault]) -> Row:
    for number, name in enumerate(members, start=1):
        if name not in _MEMBERS:
            faults.append(Fault(line=line, field=f"member {number}", what=_describe_unknown(name.lower(), _MEMBERS)))
    if members.get("recipient") is not None and members.get("recipients") is not None:
        faults.append(Fault(line=line, what="Has a recipient and recipients; leave one of them out."))
    message = {name: value for name, value in members.items() if name in _MEMBERS and name != "recipient"}
    if has_single_recipient := members.get("recipient") is not None:
        message["recipients"] = [members["recipient"]]
    return Row(line=line, message=message, has_single_recipient=has_single_recipient)


def _describe_unknown(name: str, known: Sequence[str], hint: str = "") -> str:
    """The fault of an unknown name. Does not quote it: without a header the first line holds numbers and texts."""
    if name == "additionaloptions":
        return "additionalOptions can be used in JSON lines only."
    by_lowered = {known_name.lower(): known_name for known_name in known}
    nearest = get_close_matches(name[:64], by_lowered, n=1, cutoff=0.6)
    known_names = (
        f"the nearest known name is {by_lowered[nearest[0]]}" if nearest else f"the known names are {', '.join(known)}"
    )
    return "Is not a known name; " + (f"{hint}, and " if hint else "") + known_names + "."


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError
