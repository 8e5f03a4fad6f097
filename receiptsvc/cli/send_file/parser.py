"""Parses a file of messages (CSV or JSON lines) as a whole: into the API's messages with their lines, or all faults.

It knows the two forms and the names of a message's fields; the service checks the values. Encodings are in `decoding`,
what spreadsheets do to CSV in `cells`. No fault quotes the file's content: a line and a name say where to look.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NoReturn

from receiptsvc.cli.send_file import cells, decoding, duplicates
from receiptsvc.cli.send_file.cells import Sheet
from receiptsvc.cli.send_file.decoding import NotDecoded
from receiptsvc.cli.send_file.faults import Fault, InvalidFile, Notice
from receiptsvc.cli.send_file.rows import Row
from receiptsvc.cli.send_file.template import Template, fold
from receiptsvc.cli.terminal.message_fields import MESSAGE_FIELDS
from receiptsvc.domain import references

__all__ = ["COLUMNS", "FORMS", "Fault", "InvalidFile", "Options", "Parsed", "Row", "locate", "locate_warning", "parse"]

FORMS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}  # by the file's extension

_FLAGS = tuple(field.name for field in MESSAGE_FIELDS if field.is_flag)
COLUMNS = ("recipient", "recipients", "text", *(field.name for field in MESSAGE_FIELDS))
_MEMBERS = (*COLUMNS, "additionalOptions")
# What the export of messages writes beside a message's own fields: left out when it is read back.
EXPORTED = ("id", "createdAt", "status", "statusAt", "conflict", "transactionID", "encoding", "segments")
_FLAG_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False} | {
    word: value  # as spreadsheets write them in other languages
    for value, words in ((True, "wahr ja vrai oui verdadero vero waar"), (False, "falsch nein faux non falso onwaar"))
    for word in words.split()
}
_SCIENTIFIC = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?[eE][+-]?[0-9]+")
_IS_SCIENTIFIC = (
    "Is a number in scientific notation, such as 4.477E+11, as a spreadsheet shows a long one, and its last digits may "
    "be lost: format the column as text, put the numbers in again, and save."
)
_PATH = re.compile(r"messages\[([0-9]{1,9})\]\.?(.*)", re.DOTALL)
_LENIENT_HINT = "--columns recipient=NAME,text=NAME maps other names"


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How a file is to be read, beside its form.

    `encoding`: see `decoding`. `columns`: our names, and the file's own for them. `template`: the text of all messages.
    `duplicates`: one of `duplicates.CHOICES`.
    """

    encoding: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    template: Template | None = None
    duplicates: str = duplicates.KEEP

    @property
    def takes_other_columns(self) -> bool:
        """Whether the file may have columns that are no field of a message."""
        return bool(self.columns) or self.template is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """The messages of a file, in its order, and what is worth a warning."""

    rows: list[Row]
    notices: list[Notice]


def read(data: bytes, form: str) -> list[Row]:
    """The messages of a file as `parse` reads it without options."""
    return parse(data, form).rows


def parse(data: bytes, form: str, options: Options | None = None) -> Parsed:
    """The messages of a file, at least one. `form`: `csv` or `jsonl`. Raises InvalidFile."""
    options = options or Options()
    try:
        decoded = decoding.decode(data, options.encoding)
    except NotDecoded as error:
        raise InvalidFile([Fault(line=error.line, what=str(error))]) from None
    faults: list[Fault] = []
    notices: list[Notice] = []
    if decoded.assumed:
        text = f"is not UTF-8, and was read as {decoded.assumed}; if that is wrong, --encoding names the right one"
        notices.append(Notice(text=text, lines=[decoded.first_line]))
    read_rows = _read_csv if form == "csv" else _read_json_lines
    rows = list(read_rows(decoded.text, options, faults, notices))
    faults += _find_faults(rows, {(fault.line, fault.field) for fault in faults})
    if not rows and not faults:
        faults.append(Fault(line=None, what="There is no message in it."))
    rows = duplicates.handle(rows, options.duplicates, faults, notices)
    if faults:
        raise InvalidFile(faults)
    return Parsed(rows=rows, notices=notices)


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


def _find_faults(rows: Iterable[Row], known: set[tuple[int | None, str]]) -> Iterator[Fault]:
    """Missing fields, and messageGuids that are used twice. `known`: lines and fields that have a fault already."""
    guids: dict[str, int] = {}
    for row in rows:
        if not row.message.get("recipients") and (row.line, "recipient") not in known:
            yield Fault(line=row.line, field="recipient", what="Is missing.")
        if row.message.get("text") in (None, "") and (row.line, "text") not in known:
            yield Fault(line=row.line, field="text", what="Is missing.")
        guid = row.message.get("messageGuid")
        key = references.guid_key(guid) if isinstance(guid, str) else ""
        if key and guids.setdefault(key, row.line) != row.line:
            yield Fault(line=row.line, field="messageGuid", what=f"Is used in line {guids[key]} already.")


def _read_csv(text: str, options: Options, faults: list[Fault], notices: list[Notice]) -> Iterator[Row]:
    sheet = cells.read(text, faults)
    if sheet is None:
        return
    names = _name_columns(sheet, options, faults, notices)
    if names is None:
        return
    if sheet.guarded_lines:
        what = "had an apostrophe before =, +, - or @ in a cell, which was taken for an export's guard and left out"
        notices.append(Notice(text=what, lines=list(dict.fromkeys(sheet.guarded_lines))))
    folded = [fold(name) for name in sheet.header]
    for row in sheet.rows:
        message = _message_of_cells(dict(zip(names, row.values, strict=True)), row.line, faults, notices)
        values = {name: value.strip() for name, value in zip(folded, row.values, strict=True)}
        _fill_text(message, values, row.line, options, faults)
        yield Row(line=row.line, message=message, has_single_recipient="recipient" in names)


def _name_columns(sheet: Sheet, options: Options, faults: list[Fault], notices: list[Notice]) -> list[str] | None:
    """The columns' names in the API's spelling, a number for one that is not sent; None if the header has a fault."""
    own = {fold(name): name for name in COLUMNS if name not in options.columns}
    mapped = {fold(name): ours for ours, name in options.columns.items()}
    exported = set(map(fold, EXPORTED))
    names: list[str] = []
    unused: list[str] = []  # those of an export by name; what others are called may be a person's
    header_faults: list[Fault] = []
    for number, cell in zip(sheet.numbers, sheet.header, strict=True):
        folded = fold(cell)
        name = mapped.get(folded) or own.get(folded) or ""
        if not name and not options.takes_other_columns and folded not in exported:
            what = _describe_unknown(folded, COLUMNS, "the header names the columns", _LENIENT_HINT)
            header_faults.append(Fault(line=sheet.line, field=f"column {number}", what=what))
        elif not name:
            is_used = options.template is not None and folded in options.template.names
            unused += [] if is_used else [cell if folded in exported else str(number)]
        elif name in names:
            header_faults.append(Fault(line=sheet.line, field=name, what="Occurs twice in the header."))
        names.append(name or str(number))
    header_faults += _find_header_faults(sheet, names, options, has_unknown=bool(header_faults))
    faults += header_faults
    if unused:
        notices.append(Notice(text=f"columns that are not sent: {', '.join(unused)}", lines=[sheet.line]))
    return None if header_faults else names


def _find_header_faults(sheet: Sheet, names: Sequence[str], options: Options, *, has_unknown: bool) -> Iterator[Fault]:
    """What the header lacks, or has too much of."""
    if {"recipient", "recipients"} <= set(names):
        yield Fault(line=sheet.line, what="Has columns for recipient and recipients; leave one of them out.")
    folded = list(map(fold, sheet.header))
    for ours, name in options.columns.items():
        if fold(name) not in folded:
            what = f"--columns says {name}, and the header has no such column."
            yield Fault(line=sheet.line, field=ours, what=what, is_wrong_use=True)
    if options.template is not None:
        yield from _find_template_faults(sheet, names, options.template)
    if not has_unknown:  # an unknown name may be the missing one, misspelt
        given = {*names, *options.columns} | ({"text"} if options.template is not None else set())
        for name in ("recipient", "text"):
            if not {name, f"{name}s"} & given:
                hint = f" {_LENIENT_HINT}." if options.takes_other_columns else ""
                yield Fault(line=sheet.line, field=name, what=f"The header has no column of this name.{hint}")


def _find_template_faults(sheet: Sheet, names: Sequence[str], template: Template) -> Iterator[Fault]:
    """What the header lacks for `--text`."""
    if "text" in names:
        what = "Is a column here, and --text gives it too: leave one out."
        yield Fault(line=sheet.line, field="text", what=what, is_wrong_use=True)
    folded = list(map(fold, sheet.header))
    for name, written in template.names.items():
        if name not in folded:
            nearest = get_close_matches(name[:64], folded, n=1, cutoff=0.6)
            hint = f"; the nearest is column {sheet.numbers[folded.index(nearest[0])]}" if nearest else ""
            what = f"--text needs (({written})), and the header has no such column{hint}."
            yield Fault(line=sheet.line, what=what, is_wrong_use=True)
        elif folded.count(name) > 1:
            what = f"--text needs (({written})), and the header has several columns of that name."
            yield Fault(line=sheet.line, what=what, is_wrong_use=True)


def _fill_text(
    message: dict[str, Any], values: Mapping[str, str], line: int, options: Options, faults: list[Fault]
) -> None:
    """Give a message the text of `--text`, with its placeholders filled. A missing value is a fault."""
    template = options.template
    if template is None:
        return
    missing = [written for name, written in template.names.items() if not values.get(name)]
    if missing:
        faults += [Fault(line=line, field=written, what="Is missing, and --text needs it.") for written in missing]
        message["text"] = template.text  # never sent: a file with a fault is not
    else:
        message["text"] = template.fill(values)


def _message_of_cells(row: Mapping[str, str], line: int, faults: list[Fault], notices: list[Notice]) -> dict[str, Any]:
    message: dict[str, Any] = {}
    for name, cell in row.items():
        value = cell if name == "text" else cell.strip()
        if not value or name.isdecimal():
            continue
        if name == "recipient":
            message["recipients"] = [_read_recipient(value, line, name, faults)]
        elif name == "recipients":
            listed = [number for number in map(str.strip, re.split("[;,\r\n]", value)) if number]
            message["recipients"] = [_read_recipient(number, line, name, faults) for number in listed]
        elif name not in _FLAGS:
            message[name] = value
            if name in {"clientRef", "messageGuid"} and _SCIENTIFIC.fullmatch(value):
                notices.append(Notice(text=f"has a {name} that looks like a number cut by a spreadsheet", lines=[line]))
        elif value.lower() in _FLAG_WORDS:
            message[name] = _FLAG_WORDS[value.lower()]
        else:
            faults.append(Fault(line=line, field=name, what="Must be true or false, or empty."))
    return message


def _read_recipient(value: str, line: int, name: str, faults: list[Fault]) -> str:
    """A number as a spreadsheet gives it: an apostrophe in front only says that it is text."""
    if _SCIENTIFIC.fullmatch(value):
        faults.append(Fault(line=line, field=name, what=_IS_SCIENTIFIC))
    return value.removeprefix("'")


def _read_json_lines(text: str, options: Options, faults: list[Fault], notices: list[Notice]) -> Iterator[Row]:
    unused: dict[str, None] = {}
    for line, content in enumerate(re.split("\r\n|\r|\n", text), start=1):
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
                yield _row_of_members(value, line, options, faults)
                unused |= dict.fromkeys(name for name in value if name in EXPORTED)
            else:
                faults.append(Fault(line=line, what='Must be an object such as {"recipient": "…", "text": "…"}.'))
    if unused:
        notices.append(Notice(text=f"members of an export that are not sent: {', '.join(unused)}"))


def _row_of_members(members: dict[str, Any], line: int, options: Options, faults: list[Fault]) -> Row:
    mapped = {name: ours for ours, name in options.columns.items()}
    values = {fold(name): str(value) for name, value in members.items() if isinstance(value, str | int)}
    own: dict[str, Any] = {}
    for number, (name, value) in enumerate(members.items(), start=1):
        ours = mapped.get(name) or (name if name in _MEMBERS and name not in options.columns else "")
        if ours and value is not None:  # an export has null for what a message does not have
            own[ours] = value
        elif not ours and not options.takes_other_columns and name not in EXPORTED:
            what = _describe_unknown(name.lower(), _MEMBERS, "", _LENIENT_HINT)
            faults.append(Fault(line=line, field=f"member {number}", what=what))
    if "recipient" in own and "recipients" in own:
        faults.append(Fault(line=line, what="Has a recipient and recipients; leave one of them out."))
    message = {name: value for name, value in own.items() if name != "recipient"}
    if has_single_recipient := "recipient" in own:
        message["recipients"] = [own["recipient"]]
    if options.template is not None and "text" in own:
        faults.append(Fault(line=line, field="text", what="Is a member here, and --text gives it too: leave one out."))
    _fill_text(message, values, line, options, faults)
    return Row(line=line, message=message, has_single_recipient=has_single_recipient)


def _describe_unknown(name: str, known: Sequence[str], hint: str = "", remedy: str = "") -> str:
    """The fault of an unknown name. Does not quote it: without a header the first line holds numbers and texts."""
    if name == "additionaloptions":
        return "additionalOptions can be used in JSON lines only."
    by_lowered = {known_name.lower(): known_name for known_name in known}
    nearest = get_close_matches(name[:64], by_lowered, n=1, cutoff=0.6)
    known_names = (
        f"the nearest known name is {by_lowered[nearest[0]]}" if nearest else f"the known names are {', '.join(known)}"
    )
    return (
        "Is not a known name; "
        + (f"{hint}, and " if hint else "")
        + known_names
        + (f"; {remedy}" if remedy else "")
        + "."
    )


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError
