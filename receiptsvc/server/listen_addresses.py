"""The addresses that the web process listens on: IPv6 and IPv4, or the one address of LISTEN_ADDRESS.

And why it can't, if so: one line with a remedy.
"""

import errno
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_IPV6_ADDRESSES = Path("/proc/net/if_inet6")  # Linux lists its addresses here: none if IPv6 is off

_POLL_SECONDS = 0.1
_FAULTS = {
    errno.EADDRINUSE: "in use by another process: stop that one, or set PORT to a free port",
    errno.EACCES: "this user may not listen there: set PORT to 1024 or above",
    errno.EADDRNOTAVAIL: "this machine has no such address: correct LISTEN_ADDRESS, or leave it out",
}


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


def explain(error: OSError, address: str) -> str:
    """One line: which address and port, why nothing can listen there, and what to do about it."""
    return f"can't listen on {address}: {_FAULTS.get(error.errno or 0, error.strerror)}"


def find_fault(addresses: Sequence[object], *, patience_seconds: float) -> str | None:
    """Why gunicorn could not listen on these addresses of its configuration; None: it can.

    `patience_seconds`: how long to wait for one in use, which may be that of a process that is ending.
    """
    deadline = time.monotonic() + patience_seconds
    for address in addresses:
        if not isinstance(address, tuple):  # an open file or a path, which were named for gunicorn itself
            continue
        while (error := _try_to_bind(address)) is not None:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                host, port = address[:2]
                return explain(error, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
            time.sleep(_POLL_SECONDS)
    return None


def _try_to_bind(address: tuple[str, int]) -> OSError | None:
    """The error of binding an address as gunicorn does."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return error
    return None


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
