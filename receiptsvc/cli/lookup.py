"""`status`, `search`, `explain`, `conversation` and `recipient`: what a term of any kind finds, over the API.

What a term may be is decided by the service's search, not here. How an answer looks on the screen is in `terminal`.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from urllib.parse import parse_qsl, urlsplit

import click
from rich.console import Console

from receiptsvc.cli.terminal import display, explanations, findings, national, parking, tables
from receiptsvc.cli.terminal.answers import api_errors_shown, print_json
from receiptsvc.cli.terminal.findings import Hit
from receiptsvc.cli.terminal.options import json_option, limit_option
from receiptsvc.client import ApiError, Client, Json

_NOT_FOUND = frozenset({404, 422})  # the term is not a reference of the kind it was tried as
_FORBIDDEN = 403  # the key lacks the scope for this part of an answer
_NO_HIT = "it is no id, number, last digits, transactionID, messageGuid, clientRef or Idempotency-Key known here"
_OTHERS = 20  # messages of each kind beside the one that is explained
_HISTORY = 500  # entries of a person's history that are looked through for their conversations: one page


def _check_term(_ctx: click.Context, _param: click.Parameter, words: tuple[str, ...]) -> str:
    """Join the words of a term that was not put in quotes, and refuse one that is empty or can't be encoded."""
    value = " ".join(words).strip()
    if not value or any("\ud800" <= character <= "\udfff" for character in value):
        raise click.BadParameter("must be text in UTF-8, and not empty")
    return value


_term_argument = click.argument("term", nargs=-1, required=True, metavar="TERM", callback=_check_term)


@click.command(short_help="Did the text arrive?")
@_term_argument
@limit_option
@json_option
@click.pass_context
def status(ctx: click.Context, *, term: str, limit: int, as_json: bool) -> None:
    """Did the text arrive? The statuses of all messages that TERM finds.

    TERM is any id, a number in any usual writing (inside a country: 07700 900000) or its last digits, a transactionID,
    a messageGuid, a clientRef or the beginning of one, or an Idempotency-Key. A term that can be several of these lists
    what each of them finds, newest first, and the receipts that name it and fit no message. Exit code 1 if there is
    nothing.

    \b
      python -m receiptsvc status "+44 7700 900000"
      python -m receiptsvc status 0000
      python -m receiptsvc status order-1
    """
    client = Client.from_env()
    with api_errors_shown():
        found = _find(client, term, limit)
        if _is_one_message(found) and "transitions" not in found[0].messages[0]:
            found[0].messages[0] = client.message(str(found[0].messages[0].get("id")))
    answer = {"items": [item for hit in found for item in hit.messages], "hits": list(_hits(found))}
    _show(ctx, term, found, answer if as_json else None, _print_found)


@click.command(short_help="What is this number, word or id?")
@_term_argument
@json_option
@click.pass_context
def search(ctx: click.Context, *, term: str, as_json: bool) -> None:
    """What is TERM? Everything that it may mean, with the newest messages, replies and receipts of each.

    TERM is what `status` takes; that lists all messages. Exit code 1 if there is nothing.

    \b
      python -m receiptsvc search order
    """
    with api_errors_shown():
        hits = Client.from_env().search(term)
    found = [
        Hit(
            kind=_kind(hit),
            messages=_part(hit, "messages"),
            replies=_part(hit, "replies"),
            receipts=_part(hit, "receipts"),
            total=int(hit.get("messageCount") or 0),
        )
        for hit in hits
    ]
    _show(ctx, term, found, {"items": hits} if as_json else None, partial(findings.print_hits, more=""))


@click.command(short_help="Why does a message have its status?")
@_term_argument
@json_option
@click.pass_context
def explain(ctx: click.Context, *, term: str, as_json: bool) -> None:
    """Why does a message have its status? Which report decides, and what else was reported.

    TERM is a message's id, or anything else that `status` takes: of several messages the newest is explained, and the
    others are listed. Exit code 1 if there is none.

    \b
      python -m receiptsvc explain order-1
    """
    client = Client.from_env()
    with api_errors_shown():
        found = _find(client, term, _OTHERS)
        messages = [item for hit in found for item in hit.messages]
        newest = max(messages, key=lambda item: (str(item.get("createdAt")), str(item.get("id"))), default=None)
        explanation = client.explain(str(newest.get("id"))) if newest is not None else {}
    if newest is None:
        if found:
            parked = parking.describe_adoptions([receipt for hit in found for receipt in hit.receipts])
            shows = f"{display.plain(term)} finds no message; `status` shows what it finds."
            raise click.ClickException("\n".join(filter(None, [shows, parked])))
        _say_nothing_found(ctx, term)
        return
    others = [item for item in messages if item is not newest]
    if national.is_national(term):
        click.echo(national.describe(client, term), err=True)
    if as_json:
        print_json({**explanation, "otherMessages": [item.get("id") for item in others]})
        return
    out = display.console()
    if others:
        tables.say(out, f"{display.plain(term)} finds {len(messages)} messages; this is the newest.")
    explanations.print_explanation(out, explanation, newest)
    if others:
        out.print()
        tables.say(out, "The others:")
        display.print_messages(out, others)


@click.command(short_help="What was written to and fro?")
@_term_argument
@json_option
def conversation(*, term: str, as_json: bool) -> None:
    """What was written to and fro? A conversation's timeline, with opt-outs and what is overdue.

    TERM is a clientRef, a conversation's id (cnv_…) or a person's number in any usual writing. Of a person with several
    conversations the latest is shown, and the others are listed.

    \b
      python -m receiptsvc conversation order-1
      python -m receiptsvc conversation "+44 7700 900000"
    """
    client = Client.from_env()
    with api_errors_shown(hint=partial(national.describe, client, term)):
        answer, others = _find_conversation(client, term)
    if as_json:
        print_json({**answer, "otherConversations": others})
        return
    out = display.console()
    display.print_conversation(out, answer)
    if others:
        out.print()
        tables.say(out, f"{display.count(len(others), 'more conversation')} of {display.plain(term)}:")
        findings.print_conversations(out, others)


@click.command(short_help="What did one person get and write?")
@click.argument("number", nargs=-1, required=True, metavar="NUMBER", callback=_check_term)
@limit_option
@json_option
@click.pass_context
def recipient(ctx: click.Context, *, number: str, limit: int, as_json: bool) -> None:
    """What did one person get and write? Every message to NUMBER and every reply from it, the newest first.

    NUMBER is in any usual writing; of one that is written as inside a country (07700 900000) the known numbers that end
    so are named. Receipts that name it and fit no message are listed too. Exit code 1 if there is nothing.

    \b
      python -m receiptsvc recipient "+44 7700 900000"
    """
    client = Client.from_env()
    with api_errors_shown(hint=partial(national.describe, client, number)):
        first = client.person(number)
        alike = [str(each) for each in first.get("endsAlike") or ()]
        if alike and not (first.get("items") or first.get("parkedReceipts")):
            number = national.resolve(client, number)
            first = client.person(number)
        rest = client.recipient(number, cursor=first["nextCursor"]) if first.get("nextCursor") else ()
        entries = list(islice(chain(_part(first, "items"), rest), limit + 1))
    shown, parked = entries[:limit], _part(first, "parkedReceipts")
    is_complete = len(entries) <= limit
    if national.is_national(number):
        click.echo(national.describe(client, number), err=True)
    if as_json:
        answer = {"number": first.get("number"), "items": shown, "parkedReceipts": parked, "isComplete": is_complete}
        print_json({**answer, "endsAlike": alike})
        return
    out = display.console()
    if shown or parked:
        findings.print_history(out, str(first.get("number")), shown, parked)
    if not is_complete:
        tables.say(out, "There are more; --limit shows them.")
    if not (shown or parked):
        ctx.exit(1)


def find_messages(client: Client, term: str) -> list[Json]:
    """The messages that a term of any kind finds, each once. Raises ApiError."""
    return [item for hit in _find(client, term, _OTHERS) for item in hit.messages]


def _find(client: Client, term: str, limit: int) -> list[Hit]:
    """What the service's search finds, with up to `limit` messages of each kind: each message once."""
    found: list[Hit] = []
    seen: set[str] = set()
    for hit in client.search(term):
        replies, receipts = _part(hit, "replies"), _receipts(client, hit, term, limit)
        every = list(islice(_messages(client, hit, term, [*replies, *receipts]), limit + 1))
        messages = [item for item in every[:limit] if str(item.get("id")) not in seen]
        seen |= {str(item.get("id")) for item in messages}
        if messages or replies or receipts or _kind(hit) == "conversation":
            found.append(
                Hit(
                    kind=_kind(hit),
                    messages=messages,
                    replies=replies,
                    receipts=receipts[:limit],
                    is_complete=max(len(every), len(receipts)) <= limit,
                )
            )
    return found


def _messages(client: Client, hit: Json, term: str, naming: Iterable[Json]) -> Iterator[Json]:
    """The messages of a hit: as the list gives them, where the hit is a list. `naming`: its receipts and replies."""
    body = (hit.get("query") or {}).get("body") or {}
    match _kind(hit):
        case "message":
            yield client.message(term)
        case "conversation":
            entries = islice(client.timeline(term, limit=str(_HISTORY)), _HISTORY)
            yield from _look_up(client, [str(entry.get("id")) for entry in entries if entry.get("type") == "message"])
        case "receipt" | "reply":
            yield from _look_up(client, [str(each["messageId"]) for each in naming if each.get("messageId")])
        case "recipient":
            yield from _listed(client, hit, {"recipient": str(body.get("number", term))})
        case "transactionID" | "clientRef" as kind:
            yield from _listed(client, hit, {kind: term})
        case "recipientEnds" | "nationalNumber" | "messageGuid" | "clientRefPrefix":
            yield from _listed(client, hit, body)
        case "batch":
            yield from _listed(client, hit, dict(parse_qsl(urlsplit(str(hit.get("url"))).query)))
        case _:
            yield from _part(hit, "messages")


def _look_up(client: Client, message_ids: list[str]) -> Iterator[Json]:
    """The messages with these ids, the last one first."""
    items = {str(item.get("id")): item for item in client.lookup(message_ids)}
    yield from (items[each] for each in reversed(message_ids) if each in items)


def _listed(client: Client, hit: Json, filters: dict[str, str]) -> Iterator[Json]:
    """The messages that fit these filters; where the list does not take them (a short code), those of the hit."""
    items = client.messages(**filters)
    try:
        first = next(items, None)
    except ApiError as error:
        if error.status not in _NOT_FOUND:
            raise
        yield from _part(hit, "messages")
        return
    if first is not None:
        yield first
        yield from items


def _receipts(client: Client, hit: Json, term: str, limit: int) -> list[Json]:
    """The receipts of a hit; those that it brought, where the key may not list all."""
    brought = _part(hit, "receipts")
    if _kind(hit) not in {"receipt", "parkedReceipts", "parkedReceiptsPrefix"}:
        return brought
    try:
        if _kind(hit) == "receipt":
            return [client.receipt(term)]
        return list(islice(client.receipts(**hit["query"]["body"]), limit + 1))
    except ApiError as error:
        if error.status != _FORBIDDEN:
            raise
        return brought or [{"id": term}]


def _hits(found: Iterable[Hit]) -> Iterator[Json]:
    """What was found by kind, for programs; the messages by their ids, since they are given beside it."""
    for hit in found:
        yield {
            "as": hit.kind,
            "messages": [item.get("id") for item in hit.messages],
            "replies": hit.replies,
            "receipts": hit.receipts,
            "isComplete": hit.is_complete,
        }


def _show(
    ctx: click.Context,
    term: str,
    found: list[Hit],
    answer: Json | None,
    print_found: Callable[[Console, str, list[Hit]], None],
) -> None:
    """What a term finds: as JSON, if there is an `answer`, else by `print_found`. Exit code 1 if it is nothing."""
    if answer is not None:
        print_json(answer)
    elif found:
        print_found(display.console(), term, found)
    if not found:
        _say_nothing_found(ctx, term)


def _print_found(out: Console, term: str, found: list[Hit]) -> None:
    if _is_one_message(found):
        message = found[0].messages[0]
        display.print_message(out, message)
        out.print()
        display.print_transitions(out, message)
    elif len(found) == 1 and found[0].kind == "receipt" and "outcome" in found[0].receipts[0]:
        parking.print_receipt(out, found[0].receipts[0])
        for message in found[0].messages:
            out.print()
            display.print_message(out, message)
    else:
        findings.print_hits(out, term, found, more="There are more; --limit shows them.")


def _is_one_message(found: list[Hit]) -> bool:
    """Whether a single message was found, and it is certain that the term means it."""
    return len(found) == 1 and found[0].is_one_message and found[0].kind != "nationalNumber"


def _find_conversation(client: Client, term: str) -> tuple[Json, list[Json]]:
    """The conversation of a clientRef, an id or a person, and the person's others. Raises ApiError."""
    refused = None
    try:
        found = client.conversation(term)
    except ApiError as error:
        if error.status not in _NOT_FOUND:
            raise
        refused = error
    others = _conversations_of(client, term) or _conversations_of(client, national.resolve(client, term))
    if refused is not None:
        if not others:
            raise refused
        found = client.conversation(str(others[0]["id"]))
    return found, [other for other in others if other["id"] != found.get("id")]


def _conversations_of(client: Client, number: str) -> list[Json]:
    """A person's conversations by their newest entries, the most recently active first; none if there is no person."""
    found: dict[str, Json] = {}
    try:
        for entry in islice(client.recipient(number, limit=str(_HISTORY)), _HISTORY):
            name = str(entry.get("conversationId"))
            overview = found.setdefault(
                name, {"id": name, "lastActivityAt": entry.get("at"), "messages": 0, "replies": 0}
            )
            overview["replies" if entry.get("type") == "reply" else "messages"] += 1
    except ApiError as error:
        if error.status not in _NOT_FOUND:
            raise
    return list(found.values())


def _kind(hit: Json) -> str:
    return str(hit.get("as"))


def _part(answer: Json, name: str) -> list[Json]:
    part = answer.get(name)
    return part if isinstance(part, list) else []


def _say_nothing_found(ctx: click.Context, term: str) -> None:
    if national.is_national(term):
        click.echo(national.describe_unknown(term), err=True)
    click.echo(f"Nothing found for {display.plain(term)}: {_NO_HIT}.", err=True)
    ctx.exit(1)
