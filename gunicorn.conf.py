"""gunicorn's configuration for the web process. Port and workers come from the service's own settings."""

import gc
import os
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from receiptsvc import logs
from receiptsvc.config import Settings
from receiptsvc.domain.errors import SettingsError
from receiptsvc.server import listen_addresses
from receiptsvc.store.core import database_faults

try:
    _settings = Settings.from_env()
except SettingsError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(2)

# The folder in which all workers count. Each reads this variable when it imports receiptsvc.metrics. Nothing here may
# import prometheus_client, which decides at its import whether counts are shared. SIGHUP runs this file again in the
# same process: the folder stays, so that no count decreases.
_METRICS = "PROMETHEUS_MULTIPROC_DIR"
_prefix = f"receiptsvc-metrics-{os.getpid()}-"
if not Path(os.environ.get(_METRICS, "")).name.startswith(_prefix):
    os.environ[_METRICS] = tempfile.mkdtemp(prefix=_prefix)

_listening = listen_addresses.find_addresses(_settings.listen_address, _settings.port)
bind = _listening.addresses
workers = _settings.web_concurrency
worker_class = "receiptsvc.server.gunicorn_worker.GunicornWorker"
worker_connections = 4096  # at most, of each process: they take 15 KiB each, 60 MiB of a small dyno's 512
http_parser = "python"  # the default, auto, takes any C parser that can be imported: not the one that is tested
limit_request_line = 8190  # gunicorn's maximum: a receipt with its message's text is long
timeout = 60
# A worker shows that it lives by a file of no bytes: a disk that hangs would stop its loop, a full one the master.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - gunicorn makes the file itself
graceful_timeout = 20  # a dyno gives 30 s between SIGTERM and SIGKILL
# Whose X-Forwarded-* and SCRIPT_NAME count. gunicorn's own default trusts this machine, or FORWARDED_ALLOW_IPS.
forwarded_allow_ips = ",".join(_settings.trusted_proxies)
keepalive = 95  # Heroku's router keeps its connections for 90 s: the server must not close one first
control_socket_disable = True  # the service listens on its port only
logger_class = "receiptsvc.server.access_log.AccessLog"  # a request line holds tokens, keys and phone numbers
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": logs.JsonFormatter, "process": "web"}},
    "handlers": {"stderr": {"class": "receiptsvc.log_handler.StderrHandler", "formatter": "json"}},
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {"gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": False}},
}


_PATIENCE_SECONDS = 5.0  # as gunicorn's own, for a port in use
_GIVEN = ("GUNICORN_PID", "LISTEN_FDS")  # they say that gunicorn is given open sockets


def on_starting(server: Any) -> None:
    """End if the port can't be had: gunicorn says that in ten lines, and no remedy.

    Import what every worker needs, which they share then: a worker that replaces another serves at once.
    """
    if not any(name in os.environ for name in _GIVEN) and not server.cfg.reuse_port:
        fault = listen_addresses.find_fault(server.cfg.address, patience_seconds=_PATIENCE_SECONDS)
        if fault is not None:
            on_exit(server)
            sys.stderr.write(f"{fault}\n")
            sys.exit(1)
    gc.disable()  # imports leave no garbage: to look for it took a tenth of the processor's time
    for module in (_settings.web_role.module, "receiptsvc.intake.callbacks", "receiptsvc.spool.drainer"):
        import_module(module)
    gc.enable()
    gc.collect()
    gc.freeze()  # else collections in the workers would write to the memory that they share


def when_ready(_server: Any) -> None:
    """Log where the server listens, what it serves, and which database it uses."""
    database, role = database_faults.describe(_settings.database_url), _settings.web_role
    addresses, families = _listening.addresses, _listening.families
    logs.info("web.listening", addresses=addresses, families=families, role=role, database=database)


def on_exit(_server: Any) -> None:
    """Remove the counts when the server ends."""
    shutil.rmtree(os.environ[_METRICS], ignore_errors=True)
