"""Schemas of problems: what needs attention, by cause."""

from marshmallow import fields

from receiptsvc import ids
from receiptsvc.domain.problems import Harm, Kind, State, id_of
from receiptsvc.store.health.problem_rows import MAX_EXAMPLES
from receiptsvc.store.health.problems import PREFIX, WANTING
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.schemas.audits import Audit
from receiptsvc.web.schemas.base import Request, Schema, about

_A_PROBLEM = ids.public(PREFIX, id_of(Kind.UNMATCHED, {"channel": "account"}))
_A_RECEIPT = "rcp_01k8z4a0b1c2d3e4f5g6h7j8k8"
_A_TIME = "2026-01-31T09:30:05.310000Z"

_KINDS = [kind.value for kind in Kind]
_HARMS = [harm.value for harm in Harm]
_STATES = [state.value for state in State]


class ServiceProblem(Schema):
    """What needs attention, by its cause."""

    id = kinds.public_id(
        PREFIX, metadata=about("The problem's id: always the same for this kind and cause.", _A_PROBLEM)
    )
    kind = fields.String(metadata=about("Its kind.", "unmatched", enum=_KINDS))
    harm = fields.String(
        metadata=about(
            "now: messages or receipts do not get on, or are misread, as long as it is there; waits: the rest goes on, "
            "or what did harm has happened no more since `lastAt`.",
            "waits",
            enum=_HARMS,
        )
    )
    title = fields.String(
        metadata=about("What it is, in words. They may quote its cause.", "41 receipts on the static URL unmatched")
    )
    detail = fields.String(allow_none=True, metadata=about("What else was seen of it, in words.", None))
    remedy = fields.String(metadata=about("What to do about it.", "Match them by hand, retry or dismiss them."))
    cause = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        metadata=about(
            "What its kind leaves open: a code, description, channel, originator, account, key (kid) or host. Of all "
            "rare ones together: others.",
            {"channel": "account"},
        ),
    )
    state = fields.String(
        metadata=about(
            "open; acknowledged: somebody works on it, until it ends; resolved: somebody said so, until it is seen "
            "again, or it has ended by itself.",
            "open",
            enum=_STATES,
        )
    )
    first_at = kinds.moment(metadata=about("Of its first row, or since when it is there.", _A_TIME))
    last_at = kinds.moment(metadata=about("Of its newest row, or when it was last seen.", _A_TIME))
    count = fields.Integer(allow_none=True, metadata=about("How many rows it has; null: it has none.", 41))
    is_all = fields.Boolean(metadata=about("Whether these are all; false: or more.", True))
    changed_at = kinds.moment(metadata=about("When it came into its state.", _A_TIME))
    changed_by = fields.String(
        allow_none=True, metadata=about("Who brought it there; null: it was seen, or seen no more.", None)
    )
    reason = fields.String(allow_none=True, metadata=about("Why, in the words of who did.", None))


class ProblemPage(Schema):
    """Problems: open ones first, of those what harms now, then the newest."""

    items = fields.List(fields.Nested(ServiceProblem), metadata=about("The problems."))
    is_complete = fields.Boolean(
        metadata=about(
            "Whether these are all. False: the database can't be used, and these are what the web process that answers "
            "sees by itself.",
            True,
        )
    )


class ProblemDetail(ServiceProblem):
    """A problem with the way to its rows, some of them, and what was done about it."""

    receipts = fields.Dict(
        keys=fields.String(),
        attribute="receipt_query",
        allow_none=True,
        metadata=about(
            "What lists its receipts as the body of `POST /v1/receipts/query`: where `isExact` is false, others too. "
            "Null: it has none.",
            {"outcome": ["unmatched"], "channel": "account"},
        ),
    )
    messages = fields.Dict(
        keys=fields.String(),
        attribute="message_query",
        allow_none=True,
        metadata=about("The same of its messages, for `POST /v1/messages/query`.", None),
    )
    is_exact = fields.Boolean(
        allow_none=True,
        metadata=about(
            "Whether `receipts` or `messages` lists its rows alone. False: rows of other causes too, which no filter "
            "tells apart, so do not act on all that it lists. Null: it has no rows.",
            True,
        ),
    )
    receipt_ids = fields.List(
        kinds.public_id("rcp"),
        metadata=about(f"Its newest receipts, at most {MAX_EXAMPLES}; none if not `isExact`.", [_A_RECEIPT]),
    )
    message_ids = fields.List(
        kinds.public_id("msg"), metadata=about(f"Its newest messages, at most {MAX_EXAMPLES}.", [])
    )
    audits = fields.List(fields.Nested(Audit), metadata=about("What was done about it, the oldest first."))


class ProblemQuery(Request):
    """Which problems to list."""

    states = kinds.Choices(
        _STATES,
        data_key="state",
        load_default=tuple(state.value for state in WANTING),
        metadata=about("Those in one of these states, repeated or separated by commas.", ["open", "acknowledged"]),
    )
