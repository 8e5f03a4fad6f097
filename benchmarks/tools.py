"""Programs from outside that the benches need: found, or installed with Debian's package manager."""

import os
import shutil
import subprocess

from receiptsvc.domain.errors import ReceiptsvcError


class BenchError(ReceiptsvcError):
    """A bench can't go on, or what it measured is not what it set out to measure."""


def need(program: str, package: str) -> str:
    """The path of a program; it is installed if it is missing. Raises BenchError if that can't be done."""
    found = shutil.which(program)
    if found:
        return found
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise BenchError(f"{program} is needed: install it first (on Debian: apt-get install {package})")
    print(f"Installing {package} …", flush=True)
    # The package would start a server of its own; at run level 1 it is told not to.
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in ([apt, "-q", "update"], [apt, "-q", "install", "-y", package]):
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
    found = shutil.which(program)
    if found is None:
        raise BenchError(f"{package} could not be installed, and {program} is needed:\n{done.stderr[-500:]}")
    return found
