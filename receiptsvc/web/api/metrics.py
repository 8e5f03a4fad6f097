"""Counts and durations for Prometheus, in its own form and so beside the JSON API."""

from flask import Blueprint, Response

from receiptsvc import metrics
from receiptsvc.web.http import context, readiness
from receiptsvc.web.http.auth import public

blueprint = Blueprint("metrics", __name__)

_OF_SENDING = {
    readiness.ACCOUNT_REFUSED: "Accounts that the gateway refuses, so that nothing is sent by them",
    readiness.ACCOUNT_SUSPECTED: "Accounts that the gateway may refuse, so that some messages wait",
    readiness.PAUSED: "Whether somebody has paused sending",
    readiness.OVERDUE: "Messages whose answer was lost, and that are not offered again",
}


@blueprint.get("/metrics")
@public
def read_metrics() -> Response:
    """Those of every web process of this server."""
    spool = context.spooled()
    now: dict[str, tuple[str, float]] = {}
    if spool is not None:
        age = (context.now() - spool.oldest_at).total_seconds() if spool.oldest_at else 0
        now = {
            "spool_records": ("Callbacks that wait in the spool for the database", spool.records),
            "spool_bytes": ("Bytes of the files that they wait in", spool.bytes),
            "spool_age_seconds": ("How long the oldest of them has waited", age),
            "spool_aside_files": ("Files set aside: torn, or refused by the database", spool.aside_files),
        }
    sending = context.readiness().look_at_sending(context.now())
    now |= {name: (_OF_SENDING[name], value) for name, value in sending.items()}
    return Response(metrics.render(now), content_type=metrics.CONTENT_TYPE)
