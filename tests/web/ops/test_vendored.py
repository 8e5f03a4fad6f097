"""What the ops page loads and is not ours is as it was published."""

import tomllib
from hashlib import sha256

from receiptsvc.locations import PROJECT

FOLDER = PROJECT / "receiptsvc" / "web" / "ops"


def test_each_file_has_its_checksum() -> None:
    vendored = tomllib.loads((FOLDER / "vendored.toml").read_text())
    assert vendored
    for name, file in vendored.items():
        assert sha256((FOLDER / "static" / name).read_bytes()).hexdigest() == file["sha256"]
        assert {"package", "version", "licence"} <= file.keys()
