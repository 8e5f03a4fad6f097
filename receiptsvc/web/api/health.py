"""Whether this process lives, and whether it can do its duty."""

from typing import Any

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.web.http import context
from receiptsvc.web.http.auth import public
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.schemas.operations import Liveness, Readiness

blueprint = new_blueprint("health", "For whatever watches over the processes.", prefix="")


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

    200 as long as one can, 503 otherwise. What else is not as it should be stands in the body.
    """
    try:
        degraded = context.readiness().find_degraded(context.now())
    except StorageUnavailable:
        return {"status": "unavailable", "degraded": ["storage"]}, 503
    return {"status": "degraded" if degraded else "ok", "degraded": degraded}
