"""Liveness and readiness of this process."""

from typing import Any

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.web.http import context
from receiptsvc.web.http.auth import public
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.schemas.operations import Liveness, Readiness

blueprint = new_blueprint("health", "Liveness and readiness, for monitoring.", prefix="")


@endpoint(blueprint, "GET", "/healthz", response=Liveness)
@public
def read_liveness() -> dict[str, Any]:
    """Is this process alive?

    Touches nothing else.
    """
    return {}


@endpoint(blueprint, "GET", "/readyz", response=Readiness, alt_responses={503: Readiness})
@public
def read_readiness() -> Any:
    """Can a callback be kept?

    200 while one can, else 503. The body lists what else is degraded.
    """
    try:
        degraded = context.readiness().find_degraded(context.now())
    except StorageUnavailable:
        return {"status": "unavailable", "degraded": ["storage"]}, 503
    return {"status": "degraded" if degraded else "ok", "degraded": degraded}
