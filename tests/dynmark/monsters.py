"""Answers made to cost whoever reads them time or memory, of the greatest size that is read."""

from collections.abc import Iterable
from itertools import count

from receiptsvc.dynmark.outbound import answers
from tests.dynmark.calls import LAUGHS

SIZE = answers.MAX_BYTES - 1024


def _many(piece: str, size: int = SIZE) -> str:
    """As many of a piece as fit, each with its number for `%d`."""
    if "%" not in piece:
        return piece * (size // len(piece))
    return "".join(piece % number for number in range(size // len(piece % SIZE)))


def _quoting(opening: str, closing: str) -> str:
    """Items that each quote other words of a logon at length."""
    numbers = count()
    pieces: Iterable[str] = (f"{opening}{next(numbers)} {'login ' * 600}{closing}" for _ in range(SIZE // 4000))
    return "".join(pieces)


def _envelope(content: str, before: str = "") -> bytes:
    return (
        f'{before}<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{content}</s:Body></s:Envelope>'
    ).encode()


def _result(content: str) -> str:
    return f"<messageresult>{content}</messageresult>"


_HALF = "x" * (SIZE // 2)
_DEEP = 110  # the deepest nesting of two elements that is read at all
_WORDY = "<returnCode>1</returnCode><returnDescription>"

SOAP = {
    "entities that grow": _envelope("&j;", LAUGHS),
    "entities that grow in an attribute": _envelope('<a b="&j;"/>', LAUGHS),
    "one long entity, often": _envelope("&a;" * (SIZE // 8), f'<!DOCTYPE x [<!ENTITY a "{_HALF}">]>'),
    "parameter entities": _envelope(
        "", f'<!DOCTYPE x [<!ENTITY % a "{_HALF}"><!ENTITY % b "{"&#37;a;" * 100}">%b;%b;]>'
    ),
    "an attribute's long default": _envelope("<a/>" * 100_000, f'<!DOCTYPE x [<!ATTLIST a b CDATA "{_HALF}">]>'),
    "a file": _envelope(_result("&a;"), '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>'),
    "another host": _envelope("&a;", '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x" [<!ENTITY a SYSTEM "x">]>'),
    "depth": _envelope(_many("<a>")),
    "much depth": _envelope(_many("<a>" * 200 + "</a>" * 200)),
    "a long attribute": _envelope(f'<a b="{_HALF}{_HALF}"/>'),
    "many attributes": _envelope("<a" + _many(' b%d=""') + "/>"),
    "many namespaces": _envelope("<a" + _many(' xmlns:b%d="u"') + "/>"),
    "many items": _envelope(_many("<messageresult/>")),
    "many wordy items": _envelope(_quoting(f"<messageresult>{_WORDY}", "</returnDescription></messageresult>")),
    "many names": _envelope(_result(f"<recipients>{_many('<b>%d</b>')}</recipients>")),
    "many names in items in items": _envelope(
        "<messageresult><recipients>" * _DEEP
        + _many("<b>%d</b>", SIZE - 7_000)
        + "</recipients></messageresult>" * _DEEP
    ),
    "words in items in items": _envelope(
        f"<messageresult>{_WORDY}" * _DEEP
        + _many("login ", SIZE - 14_000)
        + "</returnDescription></messageresult>" * _DEEP
    ),
    "endless words": _envelope(_result(_WORDY + _many("'login ") + "</returnDescription>")),
    "endless words of a fault": _envelope("<s:Fault><faultstring>" + _many("'login ") + "</faultstring></s:Fault>"),
}

_FAILED = '{"successful":false,"FailureDescription":"'
_LISTS = {
    "depth": _many("["),
    "depth of objects": _many('{"a":'),
    "a long number": "[" + _many("1") + "]",
    "numbers beyond all": "[" + _many("1e400,") + "1]",
    "commas": "[" + _many(","),
    "a string without end": '["' + _many("\\"),
    "many items": "[" + _many("{},") + "{}]",
    "many names": "[" + _many('{"to":"%d"},') + "{}]",
    "many wordy items": "[" + _quoting(_FAILED, '"},') + "{}]",
    "many failures": '[{"successful":false,"validationFailures":[' + _many('{"property":"login"},') + "{}]}]",
    "endless words": "[" + _FAILED + _many("'login ") + '"}]',
    "many faults of an unread call": "[" + _many('{"property":"[%d].login","failureKey":"ErrBadJson"},') + "{}]",
}
REST = {name: text.encode() for name, text in _LISTS.items()}
