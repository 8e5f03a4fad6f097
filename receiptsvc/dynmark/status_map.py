"""The vendor's words for what became of a message, and ours. One data file, one setting, nothing else."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib import resources

from receiptsvc.domain.statuses import Status


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusMap:
    """How the gateway's codes are read. `version` changes whenever the reading of any code may have."""

    by_id: Mapping[str, Status]
    by_phrase: Mapping[str, Status]
    version: str

    def status_for(self, status_id: str | None, description: str | None) -> Status | None:
        """The word for a receipt: by its statusid if that is mapped, else by its whole description, else none."""
        if status_id is not None and status_id.strip() in self.by_id:
            return self.by_id[status_id.strip()]
        return self.by_phrase.get(_folded(description)) if description else None


def load(status_map: Mapping[str, Status]) -> StatusMap:
    """The words of the data file, with STATUS_MAP over them."""
    data = tomllib.loads(resources.files("receiptsvc.dynmark").joinpath("statuses.toml").read_text("utf-8"))
    by_phrase = {_folded(phrase): Status(word) for word, phrases in data.items() for phrase in phrases}
    content = repr((sorted(by_phrase.items()), sorted(status_map.items())))
    version = blake2b(content.encode(), digest_size=4).hexdigest()
    return StatusMap(by_id=dict(status_map), by_phrase=by_phrase, version=version)


def _folded(phrase: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", phrase.casefold()))
