"""What of a message a command and a file can give besides its recipients and its text: the API's fields."""

from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class MessageField:
    """A field of a message. `name`: the API's, and a file's. `flags`: the command's options for it."""

    name: str
    flags: tuple[str, ...]
    help: str
    metavar: str | None = None
    is_flag: bool = False

    def option(self) -> Any:
        """The decorator that adds its option to a command."""
        return click.option(*self.flags, self.name, metavar=self.metavar, is_flag=self.is_flag, help=self.help)


MESSAGE_FIELDS = (
    MessageField("originator", ("--from", "--originator"), "The sender to show; unset: the account's own number."),
    MessageField("clientRef", ("--client-ref",), "Your reference, at most 64 characters; it names the conversation."),
    MessageField("deliverAfter", ("--deliver-after",), "When to try first, such as 2026-01-31T09:30:00Z.", "TIME"),
    MessageField("validUntil", ("--valid-until",), "How long to try.", "TIME"),
    MessageField("countryIsoCode", ("--country",), "Country of local numbers, ISO 3166-1 alpha-3 such as GBR.", "CODE"),
    MessageField(
        "rejectUnicode", ("--reject-unicode",), "Refuse a text with characters outside the GSM set.", is_flag=True
    ),
    MessageField("includeMessageText", ("--include-message-text",), "Have each receipt carry the text.", is_flag=True),
    MessageField("filterSetName", ("--filter-set",), "The Intelligent Filtering set to apply.", "NAME"),
    MessageField("impersonateUserName", ("--impersonate",), "Resellers: send as this client's account.", "USER"),
    MessageField("messageGuid", ("--guid",), "Your own messageGuid; unset: one is made for each message."),
)
