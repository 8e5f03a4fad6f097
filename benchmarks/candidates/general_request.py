"""The service without the fast request: gunicorn's parser reads every request; answers are written as they are."""

import wsgi
from receiptsvc.server import gunicorn_worker
from receiptsvc.server.fast_path import FastRequest


def _recognise_none(_data: bytes) -> FastRequest | None:
    return None


vars(gunicorn_worker)["recognise"] = _recognise_none
application = wsgi.application
