"""GET /metrics, in Prometheus' text format. It is not part of the JSON API."""

from flask import Blueprint, Response

from receiptsvc import metrics
from receiptsvc.web.http import context, readiness
from receiptsvc.web.http.auth import public

blueprint = Blueprint("metrics", __name__)

_HELP = {
    readiness.CROWD: "Receipts of one sender that wait in a turn of their own, of the next 5,000; 0: fewer than 1,000",
    readiness.ACCOUNT_REFUSED: "Accounts that the gateway refuses, so that nothing is sent by them",
    readiness.ACCOUNT_SUSPECTED: "Accounts that the gateway may refuse, so that some messages wait",
    readiness.PAUSED: "Whether an operator has paused sending",
    readiness.OVERDUE: "Messages whose answer was lost, and that are not offered again",
}


@blueprint.get("/metrics")
@public
def read_metrics() -> Response:
    """The metrics of every web process of this host, with the spool and what holds sending as of now."""
    spool = context.spooled()
    gauges: dict[str, tuple[str, float]] = {}  # name → help text and value
    if spool is not None:
        age = (context.now() - spool.oldest_at).total_seconds() if spool.oldest_at else 0
        gauges = {
            "spool_records": ("Callbacks that wait in the spool for the database", spool.records),
            "spool_bytes": ("Bytes of the files that they wait in", spool.bytes),
            "spool_age_seconds": ("How long the oldest of them has waited", age),
            "spool_aside_files": ("Files set aside: torn, or refused by the database", spool.aside_files),
        }
    current = context.readiness().read_gauges(context.now())
    gauges |= {name: (_HELP[name], value) for name, value in current.items()}
    return Response(metrics.render(gauges), content_type=metrics.CONTENT_TYPE)
