"""Files as spreadsheets really save them: encodings, separators, empty columns, broken numbers, guards, duplicates."""

import codecs
import re
from typing import Any

import pytest

from receiptsvc.cli.send_file import parser
from receiptsvc.cli.send_file.decoding import ENCODINGS
from receiptsvc.cli.send_file.parser import InvalidFile, Options
from receiptsvc.cli.send_file.template import BadTemplate, Template
from receiptsvc.domain import spreadsheets
from receiptsvc.web.answers import export_stream

NUMBER, OTHER = "447700900001", "447700900002"
TEXT = "caf\u00e9, M\u00fcller \u2019s \u00a35 \u20ac5"


def sheet(text: str = TEXT, *, delimiter: str = ",", end: str = "\r\n") -> str:
    return f'recipient{delimiter}text{end}{NUMBER}{delimiter}"{text}"{end}'


def with_number(text: str) -> bytes:
    """A file with the number in place of each N."""
    return re.sub(r"\bN\b", NUMBER, text).encode()


def read(data: bytes, form: str = "csv", **options: Any) -> list[tuple[int, dict[str, Any]]]:
    return [(row.line, row.message) for row in parser.parse(data, form, Options(**options)).rows]


def texts(data: bytes, form: str = "csv", **options: Any) -> list[str]:
    return [message["text"] for _, message in read(data, form, **options)]


def notices(data: bytes, **options: Any) -> list[tuple[str, list[int]]]:
    return [(notice.text, list(notice.lines)) for notice in parser.parse(data, "csv", Options(**options)).notices]


def faults(data: bytes, form: str = "csv", **options: Any) -> list[str]:
    with pytest.raises(InvalidFile) as caught:
        parser.parse(data, form, Options(**options))
    lines = [str(fault) for fault in caught.value.faults]
    assert not [line for line in lines if NUMBER in line or "secret" in line]
    return lines


# kind, the file
ENCODED: list[tuple[str, bytes]] = [
    ("Google Sheets, LibreOffice, Numbers: UTF-8", sheet().encode()),
    ("Excel's CSV UTF-8: with a mark", codecs.BOM_UTF8 + sheet().encode()),
    (
        "Excel's Unicode Text: UTF-16 LE with a mark, tabs",
        codecs.BOM_UTF16_LE + sheet(delimiter="\t").encode("utf-16-le"),
    ),
    ("UTF-16 BE with a mark", codecs.BOM_UTF16_BE + sheet().encode("utf-16-be")),
    ("UTF-16 LE without a mark", sheet().encode("utf-16-le")),
    ("UTF-16 BE without a mark", sheet().encode("utf-16-be")),
    ("UTF-32 with a mark", codecs.BOM_UTF32_LE + sheet().encode("utf-32-le")),
    ("Excel's CSV on Windows: Windows-1252", sheet().encode("cp1252")),
    ("the same with semicolons", sheet(delimiter=";").encode("cp1252")),
    ("LibreOffice's Windows-1252 with line feeds", sheet(end="\n").encode("cp1252")),
    ("Excel's CSV (Macintosh): Mac Roman, carriage returns", sheet(end="\r").encode("mac_roman")),
    ("Numbers' Mac Roman with line feeds", sheet(end="\n").encode("mac_roman")),
    ("an end of file as DOS programs write it", sheet().encode() + b"\x1a"),
]


@pytest.mark.parametrize("data", [case[1] for case in ENCODED], ids=[case[0] for case in ENCODED])
def test_a_file_is_read_in_the_encoding_it_is_in(data: bytes) -> None:
    assert texts(data) == [TEXT]


# kind, the text, an encoding in which the file is read by itself
DECIDABLE: list[tuple[str, str, str]] = [
    ("small letters within words", "fa\u00e7ade, na\u00efve, tr\u00e8s \u00e9l\u00e9gant", "cp1252"),
    ("small letters within words", "fa\u00e7ade, na\u00efve, tr\u00e8s \u00e9l\u00e9gant", "mac_roman"),
    ("capitals", "D\u00c9J\u00c0 VU, \u00c9COLE", "cp1252"),
    ("capitals", "D\u00c9J\u00c0 VU", "mac_roman"),
    ("German", "Gr\u00f6\u00dfe, f\u00fcr, M\u00e4dchen", "cp1252"),
    ("German", "Gr\u00f6\u00dfe, f\u00fcr, M\u00e4dchen", "mac_roman"),
    ("Spanish", "\u00bfQu\u00e9? \u00a1Ma\u00f1ana!", "cp1252"),
    ("Spanish", "\u00bfQu\u00e9? Ma\u00f1ana", "mac_roman"),
    ("Scandinavian", "H\u00e5kan \u00d8deg\u00e5rd", "cp1252"),
    ("Scandinavian", "H\u00e5kan \u00d8deg\u00e5rd", "mac_roman"),
    ("quotes and dashes", "\u201cHi\u201d \u2013 she said\u2026", "cp1252"),
    ("quotes and dashes", "\u201cHi\u201d \u2013 she said\u2026", "mac_roman"),
    ("an English contraction", "Don\u2019t wait", "cp1252"),
    ("prices", "Only \u20ac5", "cp1252"),
    ("degrees", "20\u00b0C", "cp1252"),
    ("the same character in both", "\u00a35 off", "cp1252"),
]


@pytest.mark.parametrize(
    ("text", "codec"), [case[1:] for case in DECIDABLE], ids=[f"{case[0]}, {case[2]}" for case in DECIDABLE]
)
def test_one_byte_a_character_is_read_where_only_one_encoding_makes_sense(text: str, codec: str) -> None:
    data = f'recipient,text\n{NUMBER},plain\n{OTHER},"{text}"\n'.encode(codec)
    assert texts(data) == ["plain", text]
    if codec != "cp1252" or text != "\u00a35 off":
        [(what, lines)] = notices(data)
        assert "--encoding" in what
        assert {"cp1252": "windows-1252", "mac_roman": "mac-roman"}[codec] in what
        assert lines == [3]


# kind, the file's bytes
UNDECIDABLE: list[tuple[str, bytes]] = [
    ("a word that both have", "pa\u00eds".encode("mac_roman")),
    ("a letter that both have", "K\u00f6ln".encode("mac_roman")),
    ("an apostrophe that may be a letter", "John\u2019s".encode("cp1252")),
    ("DOS", "M\u00fcller und Fran\u00e7ois".encode("cp850")),
    ("Cyrillic", "\u041f\u0440\u0438\u0432\u0435\u0442".encode("cp1251")),
    ("Greek", "\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1".encode("cp1253")),
    ("Japanese", "\u3053\u3093".encode("shift_jis")),
    ("UTF-8 with a stray byte", b"caf\xc3\xa9 M\xfcller"),
    ("bytes that no encoding has", b"\x81\x8d\x8f"),
]


@pytest.mark.parametrize("content", [case[1] for case in UNDECIDABLE], ids=[case[0] for case in UNDECIDABLE])
def test_what_may_be_several_encodings_is_refused_by_its_line_with_the_remedy(content: bytes) -> None:
    [fault] = faults(b"recipient,text\n1,plain\n" + NUMBER.encode() + b"," + content + b"\n")
    assert fault.startswith("line 3: Is not UTF-8")
    assert fault.endswith(". Save the file as UTF-8, or name what it is with --encoding.")


# language, a code page, texts that Windows-1252 would read as something else
OF_OTHER_CODE_PAGES: list[tuple[str, str, str]] = [
    (
        "Czech",
        "windows-1250",
        "D\u011bkuji za objedn\u00e1vku, \u00fa\u010det|ve\u010der|\u010dern\u00e1|po\u010det|\u0159eka|t\u0159i|v\u011bc",
    ),
    (
        "Polish",
        "windows-1250",
        "Prosz\u0119|Cze\u015b\u0107|Dzi\u0119kuj\u0119|\u0141\u00f3d\u017a|\u015bnieg|ju\u017c",
    ),
    ("Hungarian", "windows-1250", "K\u00f6sz\u00f6n\u0151|gy\u0171jt|id\u0151"),
    ("German", "dos-850", "M\u00fcller|Stra\u00dfe|gro\u00df|f\u00fcr"),
    ("French", "dos-850", "tr\u00e8s|\u00e9l\u00e8ve|d\u00e9j\u00e0"),
    ("Italian", "dos-850", "citt\u00e0|pi\u00f9|perch\u00e9|per\u00f2"),
    ("Spanish", "dos-850", "lleg\u00f3|est\u00e1|ma\u00f1ana|men\u00fa"),
    ("German", "dos-437", "M\u00fcller|Stra\u00dfe|sch\u00f6n"),
    ("Spanish", "dos-437", "ma\u00f1ana|est\u00e1|lleg\u00f3"),
    ("German, saved by a Mac with Windows' line ends", "mac-roman", "K\u00f6ln"),
]


@pytest.mark.parametrize("end", ["\r\n", "\n"], ids=["CRLF", "LF"])
@pytest.mark.parametrize(
    ("encoding", "text"),
    [(encoding, text) for _, encoding, listed in OF_OTHER_CODE_PAGES for text in listed.split("|")],
    ids=[f"{kind}, {encoding}" for kind, encoding, listed in OF_OTHER_CODE_PAGES for _ in listed.split("|")],
)
def test_what_another_code_page_may_have_written_is_refused(encoding: str, text: str, end: str) -> None:
    data = sheet(text, end=end).encode(ENCODINGS[encoding])
    [fault] = faults(data)
    assert fault.startswith("line 2: Is not UTF-8: a word is ")
    assert encoding in fault
    assert texts(data, encoding=encoding) == [text]


# language, texts that Windows-1252 has, and no other code page as well
WESTERN: list[tuple[str, str]] = [
    (
        "French",
        "Premi\u00e8re offre pour H\u00e9l\u00e8ne|cr\u00e8me br\u00fbl\u00e9e|d\u00e9j\u00e0 vu|o\u00f9|\u00e0 bient\u00f4t",
    ),
    ("German", "Gr\u00f6\u00dfe|Stra\u00dfe|M\u00fcller|f\u00fcr|Preu\u00dfner"),
    ("Spanish", "\u00bfQu\u00e9? \u00a1Ma\u00f1ana!|Jos\u00e9 Garc\u00eda|I\u00f1aki N\u00fa\u00f1ez"),
    ("Portuguese", "n\u00e3o, voc\u00ea est\u00e1|Jo\u00e3o Sim\u00f5es Concei\u00e7\u00e3o"),
    ("Danish, Swedish", "S\u00f8ren K\u00e6r|f\u00f8rste|ogs\u00e5|Sm\u00f6rg\u00e5sbord|\u00c5ngstr\u00f6m"),
    ("Icelandic", "M\u00e1lfr\u00ed\u00f0ur"),
    ("names", "Zo\u00eb|Si\u00e2n|Se\u00e1n \u00d3 M\u00e1ille|R\u00f3is\u00edn|G\u00f6k\u00e7e \u00c7elik|\u0160koda"),
    ("signs", "soon\u2026|10 m\u00b3|1\u00ba|20\u00b0C|Only \u20ac5|\u201chello\u201d|Don\u2019t"),
]


@pytest.mark.parametrize(
    "text",
    [text for _, listed in WESTERN for text in listed.split("|")],
    ids=[kind for kind, listed in WESTERN for _ in listed.split("|")],
)
def test_windows_1252_is_taken_where_no_other_reads_as_well(text: str) -> None:
    assert texts(sheet(text).encode("cp1252")) == [text]


def test_a_word_that_may_be_of_two_languages_is_shown_in_each_reading() -> None:
    assert faults(sheet("La m\u00eame offre").encode("cp1252")) == [
        'line 2: Is not UTF-8: a word is "m\u00eame" in windows-1252, "m\u00cdme" in mac-roman, "m\u0119me" in '
        'windows-1250, "m\u00dbme" in dos-850, "m\u03a9me" in dos-437. Save the file as UTF-8, or name what it is with '
        "--encoding."
    ]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("mac-roman", "pa\u00eds"),
        ("windows-1252", "John\u2019s"),
        ("dos-850", "M\u00fcller"),
        ("windows-1251", "\u041f\u0440\u0438\u0432\u0435\u0442"),
        ("windows-1250", "Pawe\u0142"),
        ("iso-8859-15", "5 \u20ac"),
        ("utf-16", "caf\u00e9"),
    ],
)
def test_an_encoding_that_is_named_is_taken(encoding: str, text: str) -> None:
    data = sheet(text).encode(ENCODINGS[encoding])
    assert texts(data, encoding=encoding) == [text]
    assert notices(data, encoding=encoding) == []


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"PK\x03\x04\x14\x00", "workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook"),
        (b"\x1f\x8b\x08", "compressed"),
        (b"%PDF-1.7", "a PDF"),
        (b"{\\rtf1", "an RTF document"),
    ],
)
def test_what_is_no_text_is_named(start: bytes, kind: str) -> None:
    [fault] = faults(start + b"\x00\x01")
    assert kind in fault
    assert "save it as CSV" in fault


# kind, the file
SEPARATED: list[tuple[str, str]] = [
    ("commas", "recipient,text\nN,a b\n"),
    ("semicolons, where a comma is decimal", "recipient;text\nN;a b\n"),
    ("tabs", "recipient\ttext\nN\ta b\n"),
    ("bars", "recipient|text\nN|a b\n"),
    ("Excel's sep= line", "sep=;\nrecipient;text\nN;a b\n"),
    ("the same in quotes, after a round in a program", '"sep=;"\r\nrecipient;text\r\nN;a b\r\n'),
    ("sep= with a separator of its own", "SEP=^\nrecipient^text\nN^a b\n"),
    ("carriage returns alone", "recipient,text\rN,a b\r"),
    ("no line end at the end", "recipient,text\r\nN,a b"),
    ("everything in quotes", '"recipient","text"\r\n"N","a b"\r\n'),
    ("empty lines before and between", "\r\n\r\nrecipient,text\r\n\r\n,\r\nN,a b\r\n,\r\n"),
    ("empty columns at the end", "recipient,text,,\nN,a b,,\n"),
    ("an empty column in front and within", ",recipient,,text\n,N,,a b\n"),
    ("more empty cells than the header has", "recipient,text\nN,a b,,,\n"),
    ("a named column at the end that Excel leaves out", "recipient,text,clientRef\nN,a b\n"),
    ("blanks and case in the header", " Recipient , TEXT \nN,a b\n"),
    (
        "a separator within the header's quotes",
        '"recipient";"text";"client,ref,,,"\nN;a b;\n'.replace('"client,ref,,,"', '""'),
    ),
]


@pytest.mark.parametrize("text", [case[1] for case in SEPARATED], ids=[case[0] for case in SEPARATED])
def test_a_file_is_read_with_whatever_separates_it(text: str) -> None:
    [(_, message)] = read(with_number(text))
    assert message == {"recipients": [NUMBER], "text": "a b"}


def test_lines_are_counted_as_the_file_has_them() -> None:
    text = f'sep=;\r\n\r\nrecipient;text\r\n{NUMBER};"two\r\nlines"\r\n\r\n{OTHER};b\r\n'
    assert [line for line, _ in read(text.encode())] == [4, 7]
    assert [line for line, _ in read(text.replace("\r\n", "\r").encode())] == [4, 7]


def test_a_column_without_a_name_must_be_empty() -> None:
    assert faults(f"recipient,text,\n{NUMBER},secret,\n{OTHER},secret,secret\n".encode()) == [
        "line 1, column 3: Has no name in the header, and is not empty in line 3."
    ]
    [fault] = faults(f"recipient,text\n{NUMBER},secret, secret\n".encode())
    assert fault.startswith("line 2: Has 3 cells, and the header 2; put a text with commas into double quotes.")


# kind, the recipient's cell, the word of its refusal
BROKEN: list[tuple[str, str, str]] = [
    ("Excel's way with a long number", "4.4777E+11", "line 2, recipient: Is a number in scientific notation"),
    ("the same where a comma is decimal", '"4,4777E+11"', "line 2, recipient: Is a number in scientific notation"),
    ("without decimals", "4E+11", "line 2, recipient: Is a number in scientific notation"),
    ("all digits shown", "4.47700900001E+11", "line 2, recipient: Is a number in scientific notation"),
    ("small e", "4.4777e11", "line 2, recipient: Is a number in scientific notation"),
    ("with a plus", "+4.4777E+11", "line 2, recipient: Is a number in scientific notation"),
    ("too narrow a column", "########", "line 2, column 1: Is what a spreadsheet shows for an error"),
    ("a look-up that failed", "#N/A", "line 2, column 1: Is what a spreadsheet shows for an error"),
    ("a name that is not known", "#NAME?", "line 2, column 1: Is what a spreadsheet shows for an error"),
]


@pytest.mark.parametrize(("cell", "word"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_cell_that_a_spreadsheet_has_broken_is_refused_by_that_word(cell: str, word: str) -> None:
    lines = faults(f"recipient,text\n{cell},a\n".encode())
    assert lines[0].startswith(word)


def test_each_recipient_of_a_cell_is_checked() -> None:
    [fault] = faults(f'recipients,text\n"{NUMBER};4.47E+11",a\n'.encode())
    assert fault.startswith("line 2, recipients: Is a number in scientific notation")


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        (f"'{NUMBER}", NUMBER),
        (f'"=""{NUMBER}"""', NUMBER),
        ("'+44 7700 900001", "+44 7700 900001"),
        (f" {NUMBER} ", NUMBER),
    ],
)
def test_what_keeps_a_number_from_being_calculated_with_is_taken_off(cell: str, number: str) -> None:
    [(_, message)] = read(f"recipient,text\n{cell},a\n".encode())
    assert message["recipients"] == [number]


@pytest.mark.parametrize(
    ("word", "value"), [("WAHR", True), ("FALSCH", False), ("vrai", True), ("TRUE", True), ("nein", False), ("1", True)]
)
def test_a_flag_is_read_in_the_languages_of_spreadsheets(word: str, value: bool) -> None:
    [(_, message)] = read(f"recipient,text,rejectUnicode\n{NUMBER},a,{word}\n".encode())
    assert message["rejectUnicode"] is value


GUARDED = ["=1+1", "+44", "-5 degrees", "@you", "\t=1", "'=", "''+", "'", "'quoted'", "plain", "\uff1d1"]


@pytest.mark.parametrize("text", GUARDED)
def test_a_guard_is_taken_off_and_what_only_looks_like_one_is_kept(text: str) -> None:
    is_guarded = text.lstrip("'").startswith(spreadsheets.RISKY)
    data = sheet(f"'{text}" if is_guarded else text).encode()
    assert texts(data) == [text]
    assert [lines for _, lines in notices(data)] == ([[2]] if is_guarded else [])


def test_the_columns_that_only_an_export_has_are_known() -> None:
    assert {*parser.EXPORTED, "recipient", "originator", "clientRef", "text"} == set(export_stream.MESSAGES.columns)


# kind, --duplicates, what is left, lines of the warning, lines of the faults
@pytest.mark.parametrize(
    ("choice", "left", "warned", "refused"),
    [
        ("keep", ["a", "b", "c", "d"], [2, 4, 5], []),
        ("first", ["a", "b"], [2, 4, 5], []),
        ("refuse", [], [], ["line 4, recipient", "line 5, recipient"]),
    ],
)
def test_the_same_person_in_several_rows(choice: str, left: list[str], warned: list[int], refused: list[str]) -> None:
    data = (
        f"recipient,text,countryIsoCode\n{NUMBER},a,\n{OTHER},b,\n+44 (7700) 900-001,c,\n07700 900001,d,GBR\n".encode()
    )
    if refused:
        lines = faults(data, duplicates=choice)
        assert [line.partition(":")[0] for line in lines] == refused
        assert all(line.endswith("Is the same person as in line 2.") for line in lines)
        return
    assert texts(data, duplicates=choice) == left
    [(what, lines_of_warning)] = notices(data, duplicates=choice)
    assert what.startswith("the same person as in line 2")
    assert lines_of_warning == warned


def test_of_a_row_with_several_people_only_those_are_left_out_who_were_there_before() -> None:
    data = f'recipients,text\n{NUMBER},a\n"{OTHER};{NUMBER}",b\n{OTHER},c\n'.encode()
    assert [message["recipients"] for _, message in read(data, duplicates="first")] == [[NUMBER], [OTHER]]


def test_within_one_row_the_service_sees_to_it() -> None:
    assert notices(f'recipients,text\n"{NUMBER};{NUMBER}",a\n'.encode()) == []


def test_of_many_people_in_two_rows_the_first_are_told_one_by_one() -> None:
    people = "".join(f"{447700900000 + serial},a\n" for serial in range(30))
    told = notices(f"recipient,text\n{people}{people}".encode())
    assert len(told) == 21
    assert told[0] == ("the same person as in line 2", [2, 32])
    assert told[-1][0] == "10 more people who are in several lines"
    assert len(told[-1][1]) == 20


MAPPED: list[tuple[str, dict[str, str], str]] = [
    ("foreign names", {"recipient": "phone", "text": "message"}, "phone,message\nN,a\n"),
    ("in any case and with blanks", {"recipient": "Phone  Number", "text": "MESSAGE"}, "phone number, Message \nN,a\n"),
    ("others are not sent", {"recipient": "phone"}, "id,phone,text,born\n7,N,a,1970\n"),
    ("the file's own name is another thing", {"recipient": "mobile"}, "recipient,mobile,text\nJane,N,a\n"),
    ("several recipients", {"recipients": "phones"}, "phones;text\nN;a\n"),
    ("a name with a comma", {"recipient": "phone, mobile"}, '"phone, mobile",text\nN,a\n'),
    ("not in English", {"recipient": "Tel\u00e9fono", "text": "Mensaje"}, "TEL\u00c9FONO,mensaje\nN,a\n"),
]


@pytest.mark.parametrize(("columns", "text"), [case[1:] for case in MAPPED], ids=[case[0] for case in MAPPED])
def test_columns_are_mapped(columns: dict[str, str], text: str) -> None:
    [(_, message)] = read(with_number(text), columns=columns)
    assert message == {"recipients": [NUMBER], "text": "a"}


def test_members_are_mapped_in_json_lines() -> None:
    data = f'{{"phone": "{NUMBER}", "message": "a", "born": 1970}}\n'.encode()
    columns = {"recipient": "phone", "text": "message"}
    assert read(data, "jsonl", columns=columns) == [(1, {"recipients": [NUMBER], "text": "a"})]
    assert "--columns" in faults(data, "jsonl")[0]


def test_a_column_that_is_mapped_must_be_there_once() -> None:
    assert faults(f"phone,text\n{NUMBER},a\n".encode(), columns={"recipient": "mobile"}) == [
        "line 1, recipient: --columns says mobile, and the header has no such column."
    ]
    assert faults(f"phone,phone,text\n{NUMBER},,a\n".encode(), columns={"recipient": "phone"})[0] == (
        "line 1, recipient: Occurs twice in the header."
    )


FILLED: list[tuple[str, str, str, str]] = [
    (
        "other columns",
        "Dear ((name)), ((parcel)) is here",
        "recipient,name,parcel\nN,Jane,P-1\n",
        "Dear Jane, P-1 is here",
    ),
    ("case and blanks", "Dear (( First Name ))", "recipient,first name\nN, Jane \n", "Dear Jane"),
    ("twice", "((a)) ((a))", "recipient,a\nN,x\n", "x x"),
    ("a field of the message", "Your order ((clientRef))", "recipient,clientRef\nN,o/1\n", "Your order o/1"),
    ("no placeholder", "The same for all", "recipient,name\nN,Jane\n", "The same for all"),
    ("brackets that are none", "(a) ) )) (b", "recipient,name\nN,Jane\n", "(a) ) )) (b"),
    ("a value that looks like one", "((name))", "recipient,name\nN,((name))\n", "((name))"),
    ("a value with a line break", "((name))!", 'recipient,name\nN,"Jane\nDoe"\n', "Jane\nDoe!"),
    ("a guard", "((sum))", "recipient,sum\nN,'-5\n", "-5"),
]


@pytest.mark.parametrize(
    ("template", "text", "filled"), [case[1:] for case in FILLED], ids=[case[0] for case in FILLED]
)
def test_placeholders_are_filled_from_columns(template: str, text: str, filled: str) -> None:
    assert texts(with_number(text), template=Template(template)) == [filled]


def test_placeholders_are_filled_from_members() -> None:
    data = f'{{"recipient": "{NUMBER}", "name": "Jane", "count": 3}}\n'.encode()
    assert texts(data, "jsonl", template=Template("((name)): ((count))")) == ["Jane: 3"]


def test_a_value_that_is_missing_is_a_fault_with_its_line() -> None:
    template = Template("Dear ((name)), ((parcel))")
    data = f"recipient,name,parcel\n{NUMBER},Jane,P-1\n{OTHER}, ,P-2\n447700900003,Jo\n".encode()
    assert faults(data, template=template) == [
        "line 3, name: Is missing, and --text needs it.",
        "line 4, parcel: Is missing, and --text needs it.",
    ]
    rows = f'{{"recipient": "{NUMBER}", "name": null}}\n'.encode()
    assert faults(rows, "jsonl", template=Template("((name))")) == ["line 1, name: Is missing, and --text needs it."]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "recipient,nam\nN,x\n",
            "line 1: --text needs ((name)), and the header has no such column; the nearest is column 2.",
        ),
        ("recipient,born\nN,x\n", "line 1: --text needs ((name)), and the header has no such column."),
        (
            "recipient,name,Name\nN,x,y\n",
            "line 1: --text needs ((name)), and the header has several columns of that name.",
        ),
        ("recipient,name,text\nN,x,y\n", "line 1, text: Is a column here, and --text gives it too: leave one out."),
    ],
)
def test_a_header_that_does_not_fit_the_text_is_a_fault(text: str, fault: str) -> None:
    assert faults(with_number(text), template=Template("Dear ((name))")) == [fault]


@pytest.mark.parametrize("text", ["Dear ((name", "Dear (())", "Dear (( ))", "((a))((", "((a(b))"])
def test_a_text_whose_placeholders_are_broken_is_refused(text: str) -> None:
    with pytest.raises(BadTemplate):
        Template(text)
