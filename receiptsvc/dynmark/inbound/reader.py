"""What reads this gateway's callbacks: the parser and the status map, with the settings that they need."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.messages import Callback, Receipt, Reply
from receiptsvc.domain.statuses import Status
from receiptsvc.dynmark.inbound import parser
from receiptsvc.dynmark.status_map import StatusMap


@dataclass(frozen=True, kw_only=True, slots=True)
class DynmarkReader:
    """A `CallbackReader`. `zone`: of the gateway's zoneless times."""

    status_map: StatusMap
    zone: ZoneInfo

    @property
    def version(self) -> str:
        return self.status_map.version

    def read_receipts(self, callback: Callback, received_at: datetime) -> Sequence[Receipt | Unreadable]:
        return parser.read_receipts(callback, self.zone, received_at)

    def read_reply(self, callback: Callback, received_at: datetime) -> Reply:
        return parser.read_reply(callback, self.zone, received_at)

    def status_for(self, status_id: str | None, description: str | None) -> Status | None:
        return self.status_map.status_for(status_id, description)
