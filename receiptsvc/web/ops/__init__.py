"""The ops page: for the person who is asked what became of a text, and for the one who is woken. Decision 0049."""
