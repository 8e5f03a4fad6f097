"""The addresses that the web process listens on: IPv6 and IPv4, or the one address of LISTEN_ADDRESS."""

import socket
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_IPV6_ADDRESSES = Path("/proc/net/if_inet6")  # Linux lists its addresses here: none if IPv6 is off


class ListenAddresses(NamedTuple):
    """The addresses for gunicorn to bind, and their families in words for the log."""

    addresses: list[str]
    families: str


def find_addresses(address: str | None, port: int) -> ListenAddresses:
    """Where to listen. `address`: of LISTEN_ADDRESS; None: on all addresses of this machine."""
    if address is not None:
        is_ipv6 = ":" in address
        return ListenAddresses(
            [f"[{address}]:{port}" if is_ipv6 else f"{address}:{port}"], "IPv6" if is_ipv6 else "IPv4"
        )
    takes_ipv4 = _takes_ipv4()
    if takes_ipv4 is None:
        return ListenAddresses([f"0.0.0.0:{port}"], "IPv4 alone: IPv6 is off here")
    # If one IPv6 socket takes both, a second one for IPv4 would find the port in use; if not, it is needed.
    return ListenAddresses([f"[::]:{port}"] if takes_ipv4 else [f"[::]:{port}", f"0.0.0.0:{port}"], "IPv6 and IPv4")


def _takes_ipv4() -> bool | None:
    """Whether an IPv6 socket takes IPv4 too on this system; None if there is no IPv6."""
    with suppress(OSError):
        if not _IPV6_ADDRESSES.read_text().strip():
            return None
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
            return not probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:
        return None
