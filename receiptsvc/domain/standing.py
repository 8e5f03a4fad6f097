"""What a message's reports add up to, kept with the message: one more report is joined in constant time.

`statuses.fold` and `statuses.classify` over all reports stay the definition; joining them one after another, in any
order, says the same. Only to take a report out everything must be joined anew.
"""

import struct
from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from receiptsvc.domain.statuses import (
    FINAL,
    LETTERS,
    PROGRESS,
    Effect,
    Report,
    Source,
    State,
    Status,
    Strength,
    digest_of,
    strength_of,
)
from receiptsvc.domain.times import from_micros, to_micros

MAX_CONTENTS = 8  # of the gateway's reports: what comes later is known by its transition's digest
_VERSION = 1
_STATUSES = {letter: status for status, letter in LETTERS.items()}
_RANKS = {status: rank for rank, status in enumerate(PROGRESS)}

_HEAD = struct.Struct(">BBBB")  # version, which parts there are, words, contents
_PROGRESS = struct.Struct(">cq16s")  # status, time in microseconds, receipt
_FINAL = struct.Struct(">cqq12s16s")  # status, the provider's time, the time of receipt, digest, receipt
_WORD = struct.Struct(">c16s")
_HAS_PROGRESS, _HAS_FINAL, _HAS_OWN_FINAL, _HAS_GATEWAY_WORD = 1, 2, 4, 8
_DIGEST_BYTES = 12
_NO_TIME = -(1 << 63)
_NO_RECEIPT = bytes(16)


class Progress(NamedTuple):
    """The best report below final. `receipt_id`: None for a step of our own."""

    status: Status
    micros: int
    receipt_id: UUID | None


class FinalWord(NamedTuple):
    """The best final report of one source. `occurred`: the provider's time, in microseconds like the other."""

    status: Status
    occurred: int | None
    received: int
    digest: bytes
    receipt_id: UUID | None

    @property
    def strength(self) -> Strength:
        """By which the best is found."""
        return strength_of(self.status, self.occurred, self.received, self.digest)


class Standing(NamedTuple):
    """What the reports of a message add up to. `words`: each final word of the gateway, with a receipt that said it."""

    progress: Progress | None = None
    has_gateway_word: bool = False
    final: FinalWord | None = None  # of the gateway
    own_final: FinalWord | None = None
    words: tuple[tuple[Status, UUID | None], ...] = ()
    contents: tuple[bytes, ...] = ()  # digests of what the gateway said, at most MAX_CONTENTS

    @property
    def is_full(self) -> bool:
        """Whether a further content is to be kept, and looked up, elsewhere."""
        return len(self.contents) >= MAX_CONTENTS


EMPTY = Standing()


class Joined(NamedTuple):
    """What one more report did. `overflow`: its digest, if that is to be kept with its transition."""

    effect: Effect
    standing: Standing
    overflow: bytes | None = None


def join(
    standing: Standing, report: Report, receipt_id: UUID | None = None, *, known: Collection[bytes] = ()
) -> Joined:
    """Add a report. `known`: digests that transitions keep, which are looked for if the standing is full."""
    is_by_gateway = report.source is Source.GATEWAY
    progress, has_gateway_word, final, own_final, words, contents = standing
    overflow: bytes | None = None
    digest = digest_of(report)
    is_repeated = is_by_gateway and (digest in contents or digest in known)
    if is_by_gateway and not is_repeated:
        if standing.is_full:
            overflow = digest
        else:
            contents = (*contents, digest)
    status = report.status
    if status is None:
        after = Standing(progress, has_gateway_word, final, own_final, words, contents)
        return Joined(Effect.UNMAPPED, after, overflow)
    contradicts = is_by_gateway and status in FINAL and any(word is not status for word, _ in words)
    if status in FINAL:
        occurred = None if report.occurred_at is None else to_micros(report.occurred_at)
        word = FinalWord(status, occurred, to_micros(report.received_at), digest, receipt_id)
        if not is_by_gateway:
            own_final = word if own_final is None or word.strength > own_final.strength else own_final
        else:
            final = word if final is None or word.strength > final.strength else final
            if all(known is not status for known, _ in words):
                words = (*words, (status, receipt_id))
    else:
        step = Progress(status, to_micros(report.at), receipt_id)
        progress = step if progress is None or _is_further(step, progress) else progress
    after = Standing(progress, has_gateway_word or is_by_gateway, final, own_final, words, contents)
    if is_repeated:
        return Joined(Effect.DUPLICATE, after)
    if contradicts:
        return Joined(Effect.CONFLICTING, after, overflow)
    before = _deciding(standing)
    deciding = _deciding(after)
    changed = before is None or deciding is None or before.status is not deciding.status
    return Joined(Effect.APPLIED if changed else Effect.STALE, after, overflow)


def state_of(standing: Standing) -> State:
    """The status that the reports fold to. Raises ValueError if none of them has a word."""
    deciding = _deciding(standing)
    if deciding is None:
        raise ValueError("a report without a status has no place in the fold")
    micros = deciding.micros if isinstance(deciding, Progress) else _first(deciding.occurred, deciding.received)
    return State(status=deciding.status, status_at=from_micros(micros), conflict=len(standing.words) > 1)


def deciding_receipt(standing: Standing) -> UUID | None:
    """The receipt of the report that the status comes from; None: it is a step of our own."""
    deciding = _deciding(standing)
    return deciding.receipt_id if deciding is not None else None


def shown_receipts(standing: Standing) -> set[UUID]:
    """The receipts of the deciding report and of one for each final word of the gateway."""
    found = {deciding_receipt(standing), *(receipt_id for _, receipt_id in standing.words)}
    return {receipt_id for receipt_id in found if receipt_id is not None}


def find_differences(one: Standing, other: Standing) -> list[str]:
    """The names of the parts that differ in what they say. The receipts that say it, and the order, do not count."""
    parts = zip(Standing._fields, _comparable(one), _comparable(other), strict=True)
    return [name for name, value, other_value in parts if value != other_value]


def encode(standing: Standing) -> bytes:
    """The bytes that `decode` reads."""
    progress, has_gateway_word, final, own_final, words, contents = standing
    is_told = (final.status, final.receipt_id) if final is not None else None  # the final report tells this word itself
    listed = [word for word in words if word != is_told]
    parts = (
        _HAS_PROGRESS * (progress is not None)
        | _HAS_FINAL * (final is not None)
        | _HAS_OWN_FINAL * (own_final is not None)
        | _HAS_GATEWAY_WORD * has_gateway_word
    )
    encoded = [_HEAD.pack(_VERSION, parts, len(listed), len(contents))]
    if progress is not None:
        encoded.append(_PROGRESS.pack(LETTERS[progress.status], progress.micros, _pack_id(progress.receipt_id)))
    encoded += [_pack_final(word) for word in (final, own_final) if word is not None]
    encoded += [_WORD.pack(LETTERS[word], _pack_id(receipt_id)) for word, receipt_id in listed]
    encoded += contents
    return b"".join(encoded)


def decode(encoded: bytes) -> Standing | None:
    """The standing that `encode` wrote; None if it is of another version, or damaged: then join all reports anew."""
    try:
        version, parts, word_count, content_count = _HEAD.unpack_from(encoded)
        if version != _VERSION:
            return None
        place = _HEAD.size
        progress: Progress | None = None
        if parts & _HAS_PROGRESS:
            letter, micros, packed = _PROGRESS.unpack_from(encoded, place)
            progress = Progress(_STATUSES[letter], micros, _unpack_id(packed))
            place += _PROGRESS.size
        finals: list[FinalWord | None] = []
        for part in (_HAS_FINAL, _HAS_OWN_FINAL):
            finals.append(_unpack_final(encoded, place) if parts & part else None)
            place += _FINAL.size * bool(parts & part)
        words: list[tuple[Status, UUID | None]] = []
        for _ in range(word_count):
            letter, packed = _WORD.unpack_from(encoded, place)
            words.append((_STATUSES[letter], _unpack_id(packed)))
            place += _WORD.size
        final, own_final = finals
        if final is not None and all(word is not final.status for word, _ in words):
            words.append((final.status, final.receipt_id))
        contents = tuple(encoded[start : start + _DIGEST_BYTES] for start in range(place, len(encoded), _DIGEST_BYTES))
        if len(contents) != content_count or any(len(content) != _DIGEST_BYTES for content in contents):
            return None
    except (struct.error, KeyError):
        return None
    return Standing(progress, bool(parts & _HAS_GATEWAY_WORD), final, own_final, tuple(words), contents)


def _comparable(standing: Standing) -> tuple[object, ...]:
    """Of each part, what is the same in whatever order the reports came."""
    progress, has_gateway_word, final, own_final, words, contents = standing
    return (
        progress and progress[:2],
        has_gateway_word,
        final and final[:4],
        own_final and own_final[:4],
        {word for word, _ in words},
        len(contents) if standing.is_full else set(contents),
    )


def _deciding(standing: Standing) -> Progress | FinalWord | None:
    return (standing.final if standing.has_gateway_word else standing.own_final) or standing.progress


def _is_further(step: Progress, other: Progress) -> bool:
    """Of a higher rank, or of the same and earlier."""
    rank, other_rank = _RANKS[step.status], _RANKS[other.status]
    return rank > other_rank or (rank == other_rank and step.micros < other.micros)


def _first(occurred: int | None, received: int) -> int:
    return received if occurred is None else occurred


def _pack_final(word: FinalWord) -> bytes:
    occurred = _NO_TIME if word.occurred is None else word.occurred
    return _FINAL.pack(LETTERS[word.status], occurred, word.received, word.digest, _pack_id(word.receipt_id))


def _unpack_final(encoded: bytes, place: int) -> FinalWord:
    letter, occurred, received, digest, packed = _FINAL.unpack_from(encoded, place)
    at = None if occurred == _NO_TIME else occurred
    return FinalWord(_STATUSES[letter], at, received, digest, _unpack_id(packed))


def _pack_id(receipt_id: UUID | None) -> bytes:
    return _NO_RECEIPT if receipt_id is None else receipt_id.bytes


def _unpack_id(packed: bytes) -> UUID | None:
    return None if packed == _NO_RECEIPT else UUID(bytes=packed)
