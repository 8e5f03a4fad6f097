"""The service without the fast path of callbacks, for gunicorn: it reads every request and writes every answer."""

import wsgi
from receiptsvc.server.application import Application

application = Application(wsgi.application)
