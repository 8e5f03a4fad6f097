"""All of the ops page: each module of views puts its own on the blueprint when it is imported."""

from receiptsvc.web.ops import (
    audit,
    batches,
    cancellations,
    chosen,
    codes,
    conversations,
    failures,
    lists,
    messages,
    now,
    people,
    problems,
    receipt,
    receipts,
    refused_callbacks,
    search,
    sending,
    settings,
    sign_in,
)
from receiptsvc.web.ops.pages import blueprint

VIEWS = (
    sign_in,
    now,
    problems,
    search,
    lists,
    messages,
    conversations,
    people,
    receipts,
    receipt,
    chosen,
    refused_callbacks,
    failures,
    sending,
    cancellations,
    batches,
    codes,
    settings,
    audit,
)

__all__ = ["VIEWS", "blueprint"]
