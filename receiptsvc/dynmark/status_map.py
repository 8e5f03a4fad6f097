"""The status map: from the gateway's status ids and descriptions to our statuses. One data file and one setting."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib import resources

from receiptsvc.domain.statuses import Status


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusMap:
    """Statuses by statusid and by description. `version` changes with the map's content."""

    by_id: Mapping[str, Status]
    by_phrase: Mapping[str, Status]
    version: str

    def status_for(self, status_id: str | None, description: str | None) -> Status | None:
        """The status of a receipt: by its statusid if that is mapped, else by its whole description; None: unmapped."""
        if status_id is not None and status_id.strip() in self.by_id:
            return self.by_id[status_id.strip()]
        return self.by_phrase.get(_fold(description)) if description else None


def load(status_map: Mapping[str, Status]) -> StatusMap:
    """The map of the data file; `status_map` is the setting STATUS_MAP, by statusid, and wins."""
    data = tomllib.loads(resources.files("receiptsvc.dynmark").joinpath("statuses.toml").read_text("utf-8"))
    by_phrase = {_fold(phrase): Status(status) for status, phrases in data.items() for phrase in phrases}
    content = repr((sorted(by_phrase.items()), sorted(status_map.items())))
    version = blake2b(content.encode(), digest_size=4).hexdigest()
    return StatusMap(by_id=dict(status_map), by_phrase=by_phrase, version=version)


def _fold(phrase: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", phrase.casefold()))
