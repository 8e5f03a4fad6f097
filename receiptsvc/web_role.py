"""What a web process serves: WEB_ROLE. Whoever needs to know it asks here.

Health and metrics are in every role. Callbacks are kept in every role too: in one that does not expect them they are
counted as misrouted.
"""

from enum import StrEnum


class WebRole(StrEnum):
    """The values of WEB_ROLE, the default first."""

    ALL = "all"
    CALLBACKS = "callbacks"
    API = "api"

    @property
    def serves_api(self) -> bool:
        """Whether it answers the API, its documentation and the ops page."""
        return self is not WebRole.CALLBACKS

    @property
    def expects_callbacks(self) -> bool:
        """Whether the gateway is meant to reach it."""
        return self is not WebRole.API

    @property
    def module(self) -> str:
        """The module whose `serve` makes what it answers beside callbacks. No other role's is imported."""
        return "receiptsvc.web.app" if self.serves_api else "receiptsvc.web.monitoring"
