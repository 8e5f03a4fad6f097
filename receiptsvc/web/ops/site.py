"""All of the ops page: each module of views puts its own on the blueprint when it is imported."""

from receiptsvc.web.ops import audit, conversations, lists, messages, now, people, problems, receipts, search, sign_in
from receiptsvc.web.ops.pages import blueprint

VIEWS = (sign_in, now, problems, search, lists, audit, people, messages, conversations, receipts)

__all__ = ["VIEWS", "blueprint"]
