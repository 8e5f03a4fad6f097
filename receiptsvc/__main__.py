"""`python -m receiptsvc`."""

from receiptsvc.cli.main import commands

if __name__ == "__main__":
    commands(prog_name="python -m receiptsvc")
