"""Prints the API's description as Markdown: what stands in docs/api.md."""

from receiptsvc.config import Settings
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from receiptsvc.web.docs import pages, reference

_SETTINGS = {
    "DATABASE_URL": "sqlite:////nowhere/example.db",
    "CALLBACK_KEYS": "example:0123456789abcdef",
    "API_KEYS": "example:read:0123456789abcdef",
}

if __name__ == "__main__":
    settings = Settings.from_env(_SETTINGS)
    app = create_app(settings, Database(settings.database_url))
    print(reference.markdown(pages.document_of(app)), end="")
