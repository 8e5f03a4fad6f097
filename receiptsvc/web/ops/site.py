"""All of the ops page: each module of views puts its own on the blueprint when it is imported."""

from receiptsvc.web.ops import audit, conversations, lists, messages, people, problems, receipts, search, sign_in
from receiptsvc.web.ops.pages import blueprint

VIEWS = (sign_in, search, lists, audit, people, messages, conversations, receipts, problems)

__all__ = ["VIEWS", "blueprint"]
