"""The same person in several rows of a file: what is done about it. Within one row the service sees to it."""

from collections import defaultdict
from collections.abc import Sequence

from receiptsvc.cli.send_file.faults import Fault, Notice
from receiptsvc.cli.send_file.rows import Row
from receiptsvc.domain import countries, numbers

KEEP, FIRST, REFUSE = "keep", "first", "refuse"
CHOICES = (KEEP, FIRST, REFUSE)

_MAX_SHOWN = 20  # people who get a warning of their own


def handle(rows: Sequence[Row], choice: str, faults: list[Fault], notices: list[Notice]) -> list[Row]:
    """The rows that are left. `first`: without a person's later rows; `refuse`: those are faults; else all of them."""
    lines: defaultdict[str, list[int]] = defaultdict(list)
    left: list[Row] = []
    for row in rows:
        again = {text for text in _recipients(row) if lines.get(_identify(row, text))}
        for person in dict.fromkeys(_identify(row, text) for text in _recipients(row)):
            if lines[person] and choice == REFUSE:
                what = f"Is the same person as in line {lines[person][0]}."
                faults.append(Fault(line=row.line, field=row.field("recipients"), what=what))
            lines[person].append(row.line)
        if choice == FIRST and again:
            rest = [text for text in row.message["recipients"] if text not in again]
            left += [_with_recipients(row, rest)] if rest else []
        else:
            left.append(row)
    repeated = [each for each in lines.values() if len(each) > 1]
    if choice != REFUSE:
        outcome = ", and only the first was kept" if choice == FIRST else ""
        notices += [
            Notice(text=f"the same person as in line {each[0]}{outcome}", lines=each) for each in repeated[:_MAX_SHOWN]
        ]
        if rest_lines := [line for each in repeated[_MAX_SHOWN:] for line in each]:
            text = f"{len(repeated) - _MAX_SHOWN} more people who are in several lines{outcome}"
            notices.append(Notice(text=text, lines=sorted(set(rest_lines))))
    return left


def _recipients(row: Row) -> list[str]:
    listed = row.message.get("recipients")
    return [text for text in listed if isinstance(text, str)] if isinstance(listed, list) else []


def _identify(row: Row, text: str) -> str:
    """The number that a text is in its row's country, as the service reads it; else its text."""
    country = row.message.get("countryIsoCode")
    region = countries.alpha_2(country) if isinstance(country, str) else None
    return numbers.normalise(text, region) or numbers.fold(text)


def _with_recipients(row: Row, recipients: list[str]) -> Row:
    message = {**row.message, "recipients": recipients}
    return Row(line=row.line, message=message, has_single_recipient=row.has_single_recipient)
