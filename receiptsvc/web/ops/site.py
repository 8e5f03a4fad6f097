"""All of the ops page: each module of views puts its own on the blueprint when it is imported."""

from receiptsvc.web.ops import conversations, messages, receipts, sign_in
from receiptsvc.web.ops.pages import blueprint

VIEWS = (sign_in, messages, conversations, receipts)

__all__ = ["VIEWS", "blueprint"]
