"""Writes docs/api.md and docs/statuses.md into the folder that is named: `make api-docs`."""

import sys
from pathlib import Path

from receiptsvc.config import Settings
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from receiptsvc.web.docs import api_markdown, pages

_SETTINGS = {
    "DATABASE_URL": "sqlite:////nowhere/example.db",
    "CALLBACK_KEYS": "example:0123456789abcdef",
    "API_KEYS": "example:read:0123456789abcdef",
}

if __name__ == "__main__":
    settings = Settings.from_env(_SETTINGS)
    app = create_app(settings, Database(settings.database_url))
    folder = Path(sys.argv[1])
    (folder / "api.md").write_text(api_markdown.write(pages.document_of(app, settings.public_url)))
    (folder / "statuses.md").write_text(pages.write_prose(app, "statuses.md"))
