"""What the commands say to a number that is written as inside a country, such as 07700 900123: see `domain.numbers`.

No country is guessed. Known recipients that end in its digits are named.
"""

from collections import Counter
from itertools import islice

import click

from receiptsvc.cli.terminal.display import count, plain
from receiptsvc.client import ApiError, Client, Unreachable
from receiptsvc.domain import numbers

_LOOKED_AT = 500  # of the newest messages


def describe(client: Client, *terms: object) -> str:
    """What to say of each of these that is such a number, and which recipients may be meant; empty: none is one."""
    return "\n".join(_describe(term, _recipients(client, term)) for term in terms if is_national(term))


def is_national(term: object) -> bool:
    """Whether a term is a number that is written as inside a country."""
    return isinstance(term, str) and numbers.national_ending(term) is not None


def resolve(client: Client, term: str) -> str:
    """The only recipient that may be meant by such a number, after it was said that it is taken; else the term."""
    fitting = list(_recipients(client, term)) if is_national(term) else []
    if len(fitting) != 1:
        return term
    click.echo(f"{_begin(term)}. {fitting[0]}, the only known recipient that ends so, is shown.", err=True)
    return fitting[0]


def describe_unknown(term: object) -> str:
    """What to say of such a number where no known recipient ends so."""
    return f"{_begin(term)}, and no known recipient ends so: write it with a + and the country code."


def _describe(term: object, fitting: Counter[str]) -> str:
    if not fitting:
        return describe_unknown(term)
    listed = ", ".join(f"{number} ({count(messages, 'message')})" for number, messages in fitting.items())
    return (
        f"{_begin(term)}. Last digits {numbers.national_ending(str(term))} fit: {listed}. Name the one that is meant."
    )


def _begin(term: object) -> str:
    return f"{plain(term)} is how a number is written inside a country"


def _recipients(client: Client, term: object) -> Counter[str]:
    """The recipients that end so, by the newest messages; none where the key may not read."""
    try:
        messages = islice(client.messages(recipientEnds=numbers.national_ending(str(term)) or ""), _LOOKED_AT)
        return Counter(str(message.get("recipient")) for message in messages)
    except (ApiError, Unreachable):
        return Counter()
