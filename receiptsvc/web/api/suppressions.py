"""Suppressions (opt-outs): listing, adding and removing them, each a recipient and an originator."""

from typing import Any

from receiptsvc.domain import numbers
from receiptsvc.store.core import models
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.paging import Page
from receiptsvc.store.outbound import suppressions
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.web.http import auth, context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas import suppressions as schemas
from receiptsvc.web.schemas.base import in_body

blueprint = new_blueprint(
    "suppressions",
    "People to whom one sender's messages are not sent. A reply that opts out is only marked, and suppresses nobody, "
    "unless the service runs with OPT_OUT_ACTION=suppress: ask its operator.",
)


@endpoint(
    blueprint,
    "GET",
    "/suppressions",
    query=schemas.SuppressionQuery,
    response=schemas.SuppressionPage,
    errors=(422, 503),
    by_post=("/suppressions/query", in_body(schemas.SuppressionQuery)),
)
@requires("read")
def list_suppressions(query: dict[str, Any]) -> Page[models.Suppression, Pair]:
    """List suppressions

    Those that fit every filter, by recipient and originator.
    """
    after = query.pop("cursor", None)
    with context.database().reading() as session:
        return suppressions.read(session, **query, after=after)


@endpoint(
    blueprint,
    "POST",
    "/suppressions",
    body=schemas.Stop,
    response=schemas.Suppression,
    status=201,
    alt_responses={200: schemas.Suppression},
    errors=(409, 503),
)
@requires("ops")
def suppress(body: dict[str, Any]) -> tuple[models.Suppression, int]:
    """Suppress a person

    From now on this sender's messages to them are refused or left out (SUPPRESSED_ACTION). What was accepted before is
    cancelled when its turn comes, unless the gateway may have it. No opt-in lifts this. 200: they were suppressed
    already; the first `createdBy` and `reason` stay.
    """
    pair = _pair(body)
    with context.database().transaction() as session:
        added = suppressions.add(session, [pair], _actor(body), context.now())
        suppression = suppressions.get(session, pair)
    if suppression is None:
        raise Problem(409, "Another request has removed the suppression at the same time; ask again.")
    return suppression, 201 if added else 200


@endpoint(
    blueprint,
    "DELETE",
    "/suppressions",
    query=schemas.Stop,
    response=schemas.Suppression,
    errors=(404, 422, 503),
    by_post=("/suppressions/remove", schemas.Stop),
)
@requires("ops")
def allow(query: dict[str, Any]) -> models.Suppression:
    """Remove a suppression

    This sender may write to the person again; opt-outs recorded until now count no more. The answer is the removed
    suppression; 404: there was none.
    """
    pair = _pair(query)
    with context.database().transaction() as session:
        removed = suppressions.remove(session, pair, _actor(query), context.now())
    if removed is None:
        raise Problem(404, "This person is not suppressed for this originator.")
    return removed


def _pair(arguments: dict[str, Any]) -> Pair:
    return Pair(arguments["recipient"], numbers.fold_originator(arguments.get("originator")))


def _actor(arguments: dict[str, Any]) -> Actor:
    return Actor(actor=auth.key_name(), reason=arguments.get("reason"))
