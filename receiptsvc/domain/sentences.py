"""How a text that somebody else wrote, a person or the gateway, ends a sentence of ours."""

_MARKS = (".", "!", "?", "…")


def end(text: str) -> str:
    """A text with one mark at its end: its own, or else a full stop."""
    return text if text.endswith(_MARKS) else f"{text}."
