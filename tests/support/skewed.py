"""Runs a module in a process whose clock is wrong: `python -m tests.support.skewed <seconds> <module> [argument…]`."""

import runpy
import sys
import time

import time_machine


def main() -> None:
    """Set the clock, and run the module as if it were started by itself."""
    seconds, module, *arguments = sys.argv[1:]
    time_machine.travel(time.time() + float(seconds), tick=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
