"""The transports to the gateway, and what each can do. Outside this folder they are only names.

A further one is a module in `outbound` beside a line here, one in `gateways` and one in `readers`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache


@dataclass(frozen=True, kw_only=True, slots=True)
class Transport:
    """What a transport can do.

    `url_setting`, `default_url`: where the gateway takes it. `ignores_repeats`: whether it carries the messageGuid, so
    that the gateway ignores a message that it has had. `lacks`: fields of the API that it can't carry, each with the
    reason; `lacks_without_wsdl`: those that it can't carry with the bundled WSDL.
    """

    url_setting: str
    default_url: str
    ignores_repeats: bool
    lacks: Mapping[str, str] = field(default_factory=dict)
    lacks_without_wsdl: Mapping[str, str] = field(default_factory=dict)


_REST_LACKS = "Can't travel by REST, which this service sends by (DYNMARK_TRANSPORT); leave it out."

TRANSPORTS: Mapping[str, Transport] = {
    "soap": Transport(
        url_setting="DYNMARK_SOAP_URL",
        default_url="https://services.dynmark.com/WebServices/MessagingServicesWS.asmx",
        ignores_repeats=True,
        lacks_without_wsdl={
            "additionalOptions": "How SOAP carries it is documented nowhere but in the gateway's live WSDL: "
            "set DYNMARK_WSDL, or leave it out.",
        },
    ),
    "rest": Transport(
        url_setting="DYNMARK_REST_URL",
        default_url="https://services.dynmark.com/webapi/message/send",
        ignores_repeats=False,
        lacks=dict.fromkeys(("messageGuid", "additionalOptions", "includeMessageText"), _REST_LACKS),
    ),
}
IGNORE_REPEATS = frozenset(name for name, transport in TRANSPORTS.items() if transport.ignores_repeats)


@cache
def unsupported(transport: str, *, has_wsdl: bool) -> Mapping[str, str]:
    """The API's fields that a transport can't carry, each with the reason. `has_wsdl`: whether DYNMARK_WSDL is set."""
    found = TRANSPORTS[transport]
    return found.lacks if has_wsdl else {**found.lacks, **found.lacks_without_wsdl}
