"""All of the ops page: each module of views puts its own on the blueprint when it is imported."""

from receiptsvc.web.ops import sign_in
from receiptsvc.web.ops.pages import blueprint

VIEWS = (sign_in,)

__all__ = ["VIEWS", "blueprint"]
