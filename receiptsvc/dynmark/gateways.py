"""The one place that names, by transport, what gives messages to the gateway."""

from collections.abc import Callable, Mapping

from receiptsvc.config import Settings
from receiptsvc.dynmark.gateway import Gateway
from receiptsvc.dynmark.outbound.rest import RestGateway
from receiptsvc.dynmark.outbound.soap import SoapGateway

GATEWAYS: Mapping[str, Callable[[Settings], Gateway]] = {"soap": SoapGateway, "rest": RestGateway}


def open_gateways(settings: Settings) -> Mapping[str, Gateway]:
    """The gateway by each transport, because a message keeps the one it was accepted for; none without an account."""
    return {name: sends(settings) for name, sends in GATEWAYS.items()} if settings.account else {}
