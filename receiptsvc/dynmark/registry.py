"""The one place that names, by transport, what gives messages to the gateway and what reads its callbacks."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from receiptsvc.config import Settings
from receiptsvc.domain.callback_reader import CallbackReader
from receiptsvc.dynmark import status_map
from receiptsvc.dynmark.gateway import Gateway
from receiptsvc.dynmark.inbound.reader import DynmarkReader
from receiptsvc.dynmark.outbound.rest import RestGateway
from receiptsvc.dynmark.outbound.soap import SoapGateway


class Registration(NamedTuple):
    """What sends by a transport, and what reads the callbacks about what was sent by it."""

    sends: Callable[[Settings], Gateway]
    reads: Callable[[Settings], CallbackReader]


def _dynmark_reader(settings: Settings) -> CallbackReader:
    return DynmarkReader(status_map=status_map.load(settings.status_map), zone=settings.gateway_timezone)


GATEWAYS: Mapping[str, Registration] = {
    "soap": Registration(SoapGateway, _dynmark_reader),
    "rest": Registration(RestGateway, _dynmark_reader),
}


def open_gateways(settings: Settings) -> Mapping[str, Gateway]:
    """The gateway by each transport, because a message keeps the one it was accepted for; none without an account."""
    return {name: entry.sends(settings) for name, entry in GATEWAYS.items()} if settings.account else {}


def open_reader(settings: Settings) -> CallbackReader:
    """What reads all callbacks: the reader of the transport that the settings choose."""
    return GATEWAYS[settings.transport].reads(settings)
