"""How long tests may take: short in the gate, long in `make test-faults`."""

import os

IS_LONG = os.environ.get("RECEIPTSVC_FAULTS") == "long"


def examples(short: int) -> int:
    """How many examples of a property are tried: of the long form ten times as many as of the short."""
    return 10 * short if IS_LONG else short
