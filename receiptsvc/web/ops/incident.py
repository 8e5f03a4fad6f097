"""What a web process knows by itself, for the page that is shown while the database is away. Nothing personal."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from threading import Event

from flask import Flask

from receiptsvc import metrics
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.spool.backlog import SpoolState
from receiptsvc.web.http import context
from receiptsvc.web.http.readiness import GAUGES, Look

_LOOK_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """`look`: the last one at the database that succeeded. `spool_fault`: why the spool can't be looked at."""

    look: Look | None
    spool: SpoolState | None
    spool_fault: str | None
    answers: Mapping[str, int]  # of this process to callbacks, by status


def describe_gauges(look: Look | None) -> Mapping[str, str]:
    """The numbers of a look, in words."""
    return {GAUGES[name]: f"{value:g}" for name, value in look.gauges.items()} if look is not None else {}


def read() -> Known:
    """All of it. It asks memory and, where there is a spool, this host's disk."""
    spool, fault = None, None
    try:
        spool = context.spooled()
    except StorageUnavailable as error:
        fault = str(error)
    answers = {f"{status} {HTTPStatus(int(status)).phrase}": n for status, n in metrics.count_answers().items() if n}
    return Known(look=context.readiness().last_look, spool=spool, spool_fault=fault, answers=answers)


def keep_looking(app: Flask, stop: Event) -> None:
    """Look at the database from time to time until `stop`, so that there is a last look. For a thread of its own."""
    with app.app_context():
        while not stop.wait(_LOOK_SECONDS):
            context.readiness().look_soon(context.now())
