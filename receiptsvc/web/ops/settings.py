"""The settings, seen and not edited: addresses, keys, versions, connections. No secret is shown, nor a part of one."""

import platform
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flask import Response
from sqlalchemy.orm import Session

from receiptsvc import __version__, connection_shares, tokens
from receiptsvc.config import Settings
from receiptsvc.store.access import key_uses
from receiptsvc.store.access.key_uses import Kind
from receiptsvc.store.core import schema
from receiptsvc.store.health import connection_limits
from receiptsvc.store.inbox import rejected
from receiptsvc.web.http import context
from receiptsvc.web.ops import effective, pages
from receiptsvc.web.ops.pages import blueprint, signed_in

_CUT = "…"  # stands for the secret part of an address


class Share(NamedTuple):
    """Connections of one purpose: how many processes have them, how many each may have, and how many are open.

    `in_use`: of all processes; None: it is counted with another line.
    """

    name: str
    processes: int
    of_each: int
    in_use: int | None


@blueprint.get("/settings")
@signed_in
def read_settings() -> Response:
    """All of it, on one page. Raises PanelLate."""
    settings, now = context.settings(), context.now()
    kids = [key.kid for key in settings.callback_keys]
    with pages.reading() as session:
        uses = {kind: key_uses.read(session, kind) for kind in Kind}
        refused = rejected.count_by_kid(session)
        database = schema.read(session.connection())
        product = schema.read_product(session.connection())
        total = connection_limits.measure(session, settings.connection_bounds, now)
        shares = _share(session, settings, total.for_callbacks) if total is not None else ()
    return pages.render(
        "settings.html",
        addresses=_cut_addresses(settings),
        callback_keys=settings.callback_keys,
        api_keys=settings.api_keys,
        uses=uses,
        refused=[(each, rejected.explain(each.kid, kids)) for each in refused],
        versions=_list_versions(product),
        database=database,
        newest=schema.REVISION,
        total=total,
        shares=shares,
        lines=effective.list_settings(settings),
        unknown=settings.unknown_names,
    )


def _cut_addresses(settings: Settings) -> Mapping[str, str]:
    """The callbacks' addresses. The part that opens them is not made at all."""
    return {
        "Receipts of each message": f"{settings.public_url}{tokens.RECEIPTS}/{_CUT}",
        "Receipts of other systems' messages": f"{settings.public_url}{tokens.RECEIPTS}/{_CUT}",
        "Replies": f"{settings.public_url}{tokens.INBOUND}/{_CUT}",
    }


def _list_versions(product: str) -> Mapping[str, str]:
    return {"receiptsvc": __version__, "Python": platform.python_version(), "Database": product}


def _share(session: Session, settings: Settings, for_callbacks: int) -> Sequence[Share]:
    """How DATABASE_CONNECTIONS is shared out among the processes of one set, and what is open of all sets.

    `for_callbacks`: how many web processes serve callbacks alone, beside the sets.
    """
    shares, in_use = settings.connection_shares, connection_limits.count_in_use(session)
    web, has_spool = settings.web_concurrency, settings.spool_dir is not None
    own = connection_shares.count_single_purpose(has_spool=has_spool)
    alone = settings.connection_bounds.of_callbacks_process
    of_web = in_use.get(connection_limits.WEB, 0)
    writing = in_use.get(connection_limits.INBOX_WRITER, 0) + in_use.get(connection_limits.NOTIFIER, 0)
    return [
        Share("web: keeping callbacks, and telling the worker", web, own, writing),
        Share("web: the API and commands", web, shares.api, of_web),
        *([Share("web: the ops page", web, shares.page, None)] if shares.page else []),
        Share("worker: its work", 1, shares.worker, in_use.get(connection_limits.WORKER, 0)),
        Share("worker: hearing of new work", 1, 1, in_use.get(connection_limits.LISTENER, 0)),
        *([Share("web: for callbacks alone", for_callbacks, alone, None)] if for_callbacks else []),
    ]
