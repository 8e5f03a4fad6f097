"""Parsing files of messages: what is read, and that every fault is listed by its line without quoting the file."""

import pytest

from receiptsvc.cli.send_file import parser
from receiptsvc.cli.send_file.parser import InvalidFile

NUMBER, SECRET = "447700900001", "a secret text"


def read(text: str, form: str = "csv") -> list[tuple[int, dict[str, object]]]:
    return [(row.line, row.message) for row in parser.read(text.encode(), form)]


def faults(data: str | bytes, form: str = "csv") -> list[str]:
    with pytest.raises(InvalidFile) as caught:
        parser.read(data.encode() if isinstance(data, str) else data, form)
    lines = [str(fault) for fault in caught.value.faults]
    assert not [line for line in lines if NUMBER in line or SECRET in line]
    return lines


def test_csv_is_read_as_people_write_it() -> None:
    text = (
        "\ufeffRecipient,text , clientRef,rejectUnicode,originator\r\n"
        '447700900001," Hello,\r\nworld ""!"" ",order/1,Yes,\r\n'
        "\r\n"
        ",,,,\r\n"
        '+44 7700 900002,5" pipe,,,ACME\r\n'
    )
    assert read(text) == [
        (
            2,
            {
                "recipients": ["447700900001"],
                "text": ' Hello,\r\nworld "!" ',
                "clientRef": "order/1",
                "rejectUnicode": True,
            },
        ),
        (6, {"recipients": ["+44 7700 900002"], "text": '5" pipe', "originator": "ACME"}),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_cell_may_hold_several_recipients_whatever_the_delimiter(delimiter: str) -> None:
    text = f'text{delimiter}recipients\nHello{delimiter}"447700900001; 447700900002,"\n'
    assert read(text) == [(2, {"text": "Hello", "recipients": ["447700900001", "447700900002"]})]


def test_json_lines_are_read_as_the_api_takes_them() -> None:
    text = (
        '{"recipient": "447700900001", "text": "a\\nb\u2028c", "additionalOptions": {"a": "b"}}\r\n'
        "\n"
        '{"recipients": ["447700900001", 7], "text": 5, "rejectUnicode": "yes"}'
    )
    assert read(text, "jsonl") == [
        (1, {"text": "a\nb\u2028c", "additionalOptions": {"a": "b"}, "recipients": ["447700900001"]}),
        (
            3,
            {"recipients": ["447700900001", 7], "text": 5, "rejectUnicode": "yes"},
        ),  # the service checks the values
    ]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("data", ["", "\ufeff", "\n \n", "recipient,text\n"])
def test_a_file_without_a_message_is_a_fault(data: str, form: str) -> None:
    if form == "jsonl" and "text" in data:
        data = ""
    assert faults(data, form) == ["There is no message in it."]


def test_bytes_that_are_not_utf_8_are_reported_by_their_line() -> None:
    assert faults(b"\xef\xbb\xbfrecipient,text\n1,fine\n2,M\xfcller\n") == [
        "line 3: Is not UTF-8: save the file as UTF-8."
    ]


def test_a_header_with_faults_names_the_columns_and_the_nearest_names() -> None:
    lines = faults(f"recipent,text,text,{SECRET},additionalOptions\n{NUMBER},x,y,z,\n")
    assert len(lines) == 4
    assert lines[0] == (
        "line 1, column 1: Is not a known name; the header names the columns, and the nearest known name is recipient; "
        "--columns recipient=NAME,text=NAME maps other names."
    )
    assert lines[1] == "line 1, text: Occurs twice in the header."
    assert lines[2].startswith("line 1, column 4: Is not a known name")
    assert lines[3] == "line 1, column 5: additionalOptions can be used in JSON lines only."


def test_a_header_must_have_a_recipient_and_a_text() -> None:
    assert faults("originator,clientRef\nA,B\n") == [
        "line 1, recipient: The header has no column of this name.",
        "line 1, text: The header has no column of this name.",
    ]
    assert faults("recipient,recipients,text\n") == [
        "line 1: Has columns for recipient and recipients; leave one of them out."
    ]


def test_a_file_without_a_header_is_not_quoted() -> None:
    assert len(faults(f"{NUMBER},{SECRET}\n{NUMBER},{SECRET}\n")) == 2


def test_every_fault_of_every_line_is_listed_in_order() -> None:
    lines = faults(
        f"recipient,text,rejectUnicode,messageGuid\n{NUMBER},,perhaps,g-1\n{NUMBER},{SECRET},,,x\n,{SECRET},,G-1\n"
    )
    assert lines == [
        "line 2, rejectUnicode: Must be true or false, or empty.",
        "line 2, text: Is missing.",
        "line 3: Has 5 cells, and the header 4; put a text with commas into double quotes.",
        "line 4, recipient: Is missing.",
        "line 4, messageGuid: Is used in line 2 already.",
    ]


@pytest.mark.parametrize("quoted", [f'"{SECRET}', f'"{SECRET}" and more', '"' + "x" * 200_000])
def test_bad_quoting_is_reported_at_the_line_where_it_begins(quoted: str) -> None:
    (fault,) = faults(f'recipient,text\n{NUMBER},"two\nlines"\n{NUMBER},{quoted}\n{NUMBER},fine\n')
    assert fault.startswith("line 4: Is not CSV from here on")


def test_every_fault_of_json_lines_is_listed_by_its_line() -> None:
    lines = faults(
        "\n".join(
            [
                '{"recipient": "447700900001", "text": ',
                f'["{NUMBER}"]',
                '{"recipient": NaN, "text": "x"}',
                f'{{"recipient": "{NUMBER}", "recipients": ["{NUMBER}"], "text": "x"}}',
                f'{{"to": "{NUMBER}", "text": "x"}}',
                f'{{"recipient": "{NUMBER}", "Text": "x"}}',
                f'{{"recipients": [], "text": {"1" * 5000}}}',
                "[" * 100_000,
            ]
        ),
        "jsonl",
    )
    assert [line.partition(":")[0] for line in lines] == [
        *("line 1", "line 2", "line 3", "line 4", "line 5, member 1", "line 5, recipient"),
        *("line 6, member 2", "line 6, text", "line 7", "line 8"),
    ]
    assert "nearest known name is text" in lines[6]


def test_the_services_errors_by_path_become_faults_of_lines() -> None:
    rows = parser.read(b"recipient,text\n1,a\n\n2,b\n", "csv")
    lines = parser.locate(
        rows,
        {
            "messages[1].recipients[0]": ["wrong", "bad"],
            "messages[0].text": ["long"],
            "messages[0]": "odd",
            "body": ["?"],
        },
    )
    assert list(map(str, lines)) == [
        "line 4, recipient: wrong",
        "line 4, recipient: bad",
        "line 2, text: long",
        "line 2: odd",
        "body: ?",
    ]
    several = parser.read(b"recipients,text\n1;2,a\n", "csv")
    assert str(parser.locate(several, {"messages[0].recipients[1]": ["wrong"]})[0]) == "line 2, recipients[1]: wrong"
    assert str(parser.locate(several, {"messages[7].text": ["wrong"]})[0]) == "messages[7].text: wrong"
