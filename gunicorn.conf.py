"""How gunicorn serves the web process. Port and workers come from the same settings as everything else."""

import os
import shutil
import sys
import tempfile
from typing import Any

from prometheus_client import multiprocess

from receiptsvc import logs
from receiptsvc.config import Settings
from receiptsvc.domain.errors import SettingsError

try:
    _settings = Settings.from_env()
except SettingsError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(2)

_metrics = tempfile.mkdtemp(prefix="receiptsvc-metrics-")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _metrics  # read by receiptsvc.metrics in each worker

bind = f"0.0.0.0:{_settings.port}"
workers = _settings.web_concurrency
worker_class = "receiptsvc.intake.server.Server"
worker_connections = 1000
limit_request_line = 8190  # gunicorn's most: a receipt with its message's text is long
timeout = 60
graceful_timeout = 20  # a dyno gives 30 s between SIGTERM and SIGKILL
keepalive = 75
control_socket_disable = True  # nothing of ours listens beside the port
logger_class = "receiptsvc.intake.access.AccessLog"  # a request line holds tokens, keys and phone numbers
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": logs.JsonFormatter, "process": "web"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {"gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": False}},
}


def child_exit(_server: Any, worker: Any) -> None:
    """A worker has ended: its gauges go, its counts stay."""
    multiprocess.mark_process_dead(worker.pid)


def on_exit(_server: Any) -> None:
    """The server ends, and its counts with it."""
    shutil.rmtree(_metrics, ignore_errors=True)
