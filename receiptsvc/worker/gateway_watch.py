"""What one worker's calls show of the gateway: since when it can't be reached, or leaves calls without a clear answer.

A call that takes messages, or refuses them by a code, shows that all is well. One lost answer shows nothing: the next
call does. The heartbeat brings it to the database, where `store.health.service_state` reads it.
"""

import threading
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from receiptsvc import logs
from receiptsvc.domain.messages import Amiss, Contact, SendOutcome, SendResult

_UNCLEAR_CALLS = 2  # in a row

_ACTIONS = {
    Contact.UNREACHABLE: "send.gateway_unreachable",
    Contact.UNCLEAR: "send.gateway_unclear",
    Contact.WEB_PAGE: "send.gateway_is_a_web_page",
}
_ANSWERED = frozenset({SendOutcome.TAKEN, SendOutcome.ACCOUNT_REFUSED, SendOutcome.SUSPECT_REFUSED})


@dataclass(frozen=True, slots=True)
class GatewayFault:
    """What is wrong with the gateway, in words, and since when."""

    text: str
    since: datetime


class GatewayWatch:
    """The calls of one worker's senders. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._amiss: Amiss | None = None  # of the last call that showed anything
        self._since: datetime | None = None
        self._calls = 0  # in a row that were amiss

    def note(self, results: Collection[SendResult], began_at: datetime) -> None:
        """Learn from how a call ended. `began_at`: when it began, by the database's clock."""
        amiss = next((result.amiss for result in results if result.amiss is not None), None)
        if amiss is None and not any(_is_answer(result) for result in results):
            return  # no call was made: we refused the messages ourselves
        with self._lock:
            self._calls = self._calls + 1 if amiss is not None else 0
            is_other = amiss is None or self._amiss is None or amiss.contact is not self._amiss.contact
            self._since = None if amiss is None else began_at if is_other or self._since is None else self._since
            self._amiss = amiss
            fault = self._fault()
        if fault is not None and amiss is not None:
            logs.fault(_ACTIONS[amiss.contact], amiss.text, since=fault.since.isoformat())
        for contact, action in _ACTIONS.items():
            if amiss is None or contact is not amiss.contact:
                logs.over(action)

    def fault(self) -> GatewayFault | None:
        """What is wrong now; None: nothing, as far as is known."""
        with self._lock:
            return self._fault()

    def _fault(self) -> GatewayFault | None:
        if self._amiss is None or self._since is None:
            return None
        if self._amiss.contact is Contact.UNCLEAR and self._calls < _UNCLEAR_CALLS:
            return None
        return GatewayFault(self._amiss.text, self._since)


def _is_answer(result: SendResult) -> bool:
    return result.outcome in _ANSWERED or result.code is not None
