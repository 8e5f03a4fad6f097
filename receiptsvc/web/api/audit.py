"""The audit: who changed what by hand, when and why."""

from typing import Any

from receiptsvc.store.core import audits
from receiptsvc.store.core.audits import AuditFilter, AuditKey
from receiptsvc.store.core.models import Audit
from receiptsvc.store.core.paging import Page
from receiptsvc.web.http import context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.schemas.audits import AuditPage, AuditQuery
from receiptsvc.web.schemas.base import in_body

blueprint = new_blueprint("audit", "Who did what by hand, when and why.")


@endpoint(
    blueprint,
    "GET",
    "/audit",
    query=AuditQuery,
    response=AuditPage,
    errors=(422, 503),
    by_post=("/audit/query", in_body(AuditQuery)),
)
@requires("ops")
def list_audits(query: dict[str, Any]) -> Page[Audit, AuditKey]:
    """List the audit

    What was done by hand, each page of the ops page that was shown with numbers, and each later move of a receipt:
    what fits every filter, the newest first. The subject of a suppression holds a number: ask for it by POST.
    """
    limit, cursor = query.pop("limit"), query.pop("cursor", None)
    with context.database().reading() as session:
        return audits.list_audits(session, AuditFilter(**query), limit=limit, after=cursor)
