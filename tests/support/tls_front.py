"""TLS before a PostgreSQL that has none, as libpq asks for it; its connections can be cut, as a network does."""

import socket
import ssl
import struct
import threading
from contextlib import suppress

import trustme

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_PIECE = 65_536


class TlsFront:
    """Listens on 127.0.0.1 while the block lasts. `is_open`: false, and whoever comes is turned away."""

    def __init__(self, server_port: int, authority: trustme.CA) -> None:
        self._server_port = server_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.port = int(self._listener.getsockname()[1])
        self.is_open = True
        self.handshakes = 0

    def __enter__(self) -> "TlsFront":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open = False
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End every connection where it stands, without a word of TLS."""
        for line in list(self._open):
            with suppress(OSError):
                socket.socket.shutdown(line, socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with suppress(OSError), line:
            if not self.is_open or line.recv(8, socket.MSG_WAITALL) != _SSL_REQUEST:
                return
            line.sendall(b"S")
            with (
                self._context.wrap_socket(line, server_side=True) as client,
                socket.create_connection(("127.0.0.1", self._server_port)) as server,
            ):
                self.handshakes += 1
                self._open.update((client, server))
                try:
                    back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
                    back.start()
                    _pass_on(client, server)
                    back.join()
                finally:
                    self._open.difference_update((client, server))


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    for line in (source, target):
        with suppress(OSError):
            socket.socket.shutdown(line, socket.SHUT_RDWR)
