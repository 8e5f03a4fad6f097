"""Counts and durations for Prometheus, in its own form and so beside the JSON API."""

from flask import Blueprint, Response

from receiptsvc import metrics
from receiptsvc.web.auth import public

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
@public
def read_metrics() -> Response:
    """Those of every web process of this server."""
    return Response(metrics.tell(), content_type=metrics.CONTENT_TYPE)
