"""Reads callbacks as the worker does, received at a fixed time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.messages import Callback, Receipt, Reply
from receiptsvc.dynmark.inbound import parser

RECEIVED_AT = datetime(2016, 11, 22, 10, 0, 30, tzinfo=UTC)


def read_receipts(
    callback: Callback, zone: ZoneInfo, received_at: datetime = RECEIVED_AT
) -> Sequence[Receipt | Unreadable]:
    return parser.read_receipts(callback, zone, received_at)


def read_reply(callback: Callback, zone: ZoneInfo, received_at: datetime = RECEIVED_AT) -> Reply:
    return parser.read_reply(callback, zone, received_at)
