"""Finds the external programs that the benches need, or installs them with apt-get."""

import os
import shutil
import subprocess

from receiptsvc.domain.errors import ReceiptsvcError


class BenchError(ReceiptsvcError):
    """A bench can't continue, or did not measure what it should."""


def need(program: str, package: str) -> str:
    """The path of a program, which is installed if it is missing. Raises BenchError if that fails."""
    path = shutil.which(program)
    if path:
        return path
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise BenchError(f"{program} is needed: install it first (on Debian: apt-get install {package})")
    print(f"Installing {package} …", flush=True)
    # At run level 1 the package does not start a server of its own.
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in ([apt, "-q", "update"], [apt, "-q", "install", "-y", package]):
        completed = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    path = shutil.which(program)
    if path is None:
        raise BenchError(f"{package} could not be installed, and {program} is needed:\n{completed.stderr[-500:]}")
    return path
