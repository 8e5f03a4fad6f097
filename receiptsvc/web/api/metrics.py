"""GET /metrics, in Prometheus' text format. It is not part of the JSON API."""

from contextlib import suppress

from flask import Blueprint, Response

from receiptsvc import metrics
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.web.http import context, readiness
from receiptsvc.web.http.auth import public

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
@public
def read_metrics() -> Response:
    """The metrics of every web process of this host, with the spool and the whole service's state as of now."""
    gauges: dict[str, tuple[str, float]] = {}  # name → help text and value
    spool = None
    with suppress(StorageUnavailable):  # `/readyz` says why
        spool = context.spooled()
    if spool is not None:
        age = (context.now() - spool.oldest_at).total_seconds() if spool.oldest_at else 0
        gauges = {
            "spool_records": ("Callbacks that wait in the spool for the database", spool.records),
            "spool_bytes": ("Bytes of the files that they wait in", spool.bytes),
            "spool_age_seconds": ("How long the oldest of them has waited", age),
            "spool_aside_files": ("Files set aside: torn, or refused by the database", spool.aside_files),
        }
    current = context.readiness().read_gauges(context.now())
    gauges |= {name: (readiness.GAUGES[name], value) for name, value in current.items()}
    return Response(metrics.render(gauges), content_type=metrics.CONTENT_TYPE)
