"""How a text that somebody else wrote ends a sentence of ours, and how a number and what it counts agree."""

_MARKS = (".", "!", "?", "…")


def end(text: str) -> str:
    """A text with one mark at its end: its own, or else a full stop."""
    return text if text.endswith(_MARKS) else f"{text}."


def agree(number: int, one: str, several: str) -> str:
    """A number before what is said of so many: `1 message stays`, `2 messages stay`."""
    return f"{number} {one if number == 1 else several}"
