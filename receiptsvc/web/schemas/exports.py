"""The filters of an export: those of the list of messages, without its pages; and what a spreadsheet may need."""

from receiptsvc.web.http import fields as kinds
from receiptsvc.web.schemas.base import Request, about
from receiptsvc.web.schemas.messages import MessageQuery


class ExportQuery(MessageQuery):
    """Which messages to export: those that fit every filter."""

    class Meta(Request.Meta):
        exclude = ("limit", "cursor")


class CsvExportQuery(ExportQuery):
    """Which messages to export, and how a spreadsheet is to read them."""

    bom = kinds.query_flag(
        load_default=False,
        metadata=about("Whether a byte order mark comes first, by which Excel knows that this is UTF-8.", True),
    )
    timezone = kinds.timezone(
        metadata=about("Write the times, in the file's name too, in this zone, with its offset.", "Europe/London")
    )
