"""A real nginx in front of the web process, with little but `proxy_pass`: so it speaks HTTP/1.0 to us."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from receiptsvc.demo.processes import free_port, is_free
from tests.support.processes import until

# Without a file for what its client has not taken yet, so that "in the middle" lasts.
_CONFIGURATION = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_max_temp_file_size 0;
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""


EVERYTHING = "location / { proxy_pass http://127.0.0.1:8000; }"


@contextmanager
def running(folder: Path, behind: int, locations: str = EVERYTHING) -> Iterator[int]:
    """The port of an nginx before another port of this machine. Without an nginx the test is skipped.

    `locations`: what it passes on, as it would stand before a service at port 8000.
    """
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        pytest.skip("THERE IS NO nginx ON THIS MACHINE: what a real proxy makes of it was not tried")
    folder.mkdir()
    port = free_port()
    passed_on = locations.replace("127.0.0.1:8000", f"127.0.0.1:{behind}")
    (folder / "nginx.conf").write_text(_CONFIGURATION.format(folder=folder, port=port, locations=passed_on))
    command = [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    with subprocess.Popen(command) as process:
        try:
            until("nginx listens", lambda: not is_free(port))
            yield port
        finally:
            process.terminate()
