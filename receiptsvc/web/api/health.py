"""Liveness and readiness of this process."""

from typing import Any

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.web.http import auth, context
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

    200 while one can, else 503. The body lists what else is degraded: with a key that has the scope `ops` in whole
    lines; to others it names only the kind of what concerns the database's, the spool's or the settings' names.
    """
    is_operator = auth.shows_scope("ops")
    try:
        found = context.readiness().find_degraded(context.now())
    except StorageUnavailable as error:
        why = str(error) if is_operator else error.kind
        return {"status": "unavailable", "degraded": ["storage", *filter(None, [why])]}, 503
    degraded = [each.text if is_operator or each.public is None else each.public for each in found]
    return {"status": "degraded" if degraded else "ok", "degraded": degraded}
