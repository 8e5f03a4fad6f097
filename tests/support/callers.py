"""Settings for tests, and callers with keys."""

from flask import Flask
from flask.testing import FlaskClient

from receiptsvc.config import Settings

SECRETS = {scope: f"{scope}-0123456789abcdef" for scope in ("send", "read", "ops")}
ALL = "all-0123456789abcdef="


def make_settings(**environ: str) -> Settings:
    """Settings with an account, a key for each scope and one for all."""
    keys = [f"{scope}er:{scope}:{secret}" for scope, secret in SECRETS.items()]
    return Settings.from_env(
        {
            "DATABASE_URL": "sqlite:////nowhere/unused.db",
            "PUBLIC_URL": "http://127.0.0.1:8000",
            "CALLBACK_KEYS": "k1:0123456789abcdef",
            "API_KEYS": ",".join([*keys, f"desk:send+read+ops:{ALL}"]),
            "DYNMARK_USERNAME": "user",
            "DYNMARK_PASSWORD": "password",
            "DYNMARK_SOAP_URL": "http://127.0.0.1:1/",
            "DYNMARK_REST_URL": "http://127.0.0.1:1/",
            "SENDS_PER_SECOND": "100000",
        }
        | environ
    )


def bearer(secret: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"Authorization": f"Bearer {secret}"}


def client_of(app: Flask, secret: str = ALL) -> FlaskClient:
    """A caller that shows a key with each request."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {secret}"
    return client
