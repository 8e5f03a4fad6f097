"""The filters of an export: those of the list of messages, without its pages."""

from receiptsvc.web.schemas.base import Request
from receiptsvc.web.schemas.messages import MessageQuery


class ExportQuery(MessageQuery):
    """Which messages to export: those that fit every filter."""

    class Meta(Request.Meta):
        exclude = ("limit", "cursor")
