"""Suppressions: who may not be written to any more, and by which sender."""

from typing import Any

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

blueprint = new_blueprint("suppressions", "People who are not to be written to any more, each for one sender.")


@endpoint(
    blueprint,
    "GET",
    "/suppressions",
    query=schemas.SuppressionQuery,
    response=schemas.SuppressionPage,
    errors=(422, 503),
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

    This sender's messages to them are refused from now on, or left out, as the service is set. What was accepted before
    still goes out. 200: they were suppressed already, and who did it first, and why, stays.
    """
    pair = _pair(body)
    with context.database().transaction() as session:
        added = suppressions.add(session, [pair], _by(body), context.now())
        stands = suppressions.get(session, pair)
    if stands is None:
        raise Problem(409, "Somebody else has let go of it this very moment; ask again.")
    return stands, 201 if added else 200


@endpoint(
    blueprint,
    "DELETE",
    "/suppressions",
    query=schemas.Stop,
    response=schemas.Suppression,
    errors=(404, 422, 503),
)
@requires("ops")
def allow(query: dict[str, Any]) -> models.Suppression:
    """Let a person be written to again

    Gives the suppression that is no more; 404: this sender was free to write to them.
    """
    pair = _pair(query)
    with context.database().transaction() as session:
        gone = suppressions.remove(session, pair, _by(query), context.now())
    if gone is None:
        raise Problem(404, "This person is not suppressed for this originator.")
    return gone


def _pair(given: dict[str, Any]) -> Pair:
    return Pair(given["recipient"], suppressions.fold(given.get("originator")))


def _by(given: dict[str, Any]) -> Actor:
    return Actor(actor=auth.key_name(), reason=given.get("reason"))
