"""The usual fast receiver: Flask queues a Celery task in Redis. No worker runs the tasks.

It runs under gunicorn's own gevent worker, monkey-patched, with a broker connection for each load connection.
"""

import os

from celery import Celery
from flask import Flask, Response, request

CONNECTIONS = 16  # a process

app = Flask("queued", static_folder=None)
_celery = Celery("queued", broker=os.environ["BENCH_REDIS_URL"])
_celery.conf.update(
    broker_pool_limit=CONNECTIONS, task_ignore_result=True, task_default_queue=os.environ["BENCH_QUEUE"]
)


def _process(method: str, query: str, body: str) -> None:
    """The task's body, which no worker runs."""


_task = _celery.task(name="receive")(_process)


@app.get("/callbacks/receipts/<_token>")
def receive(_token: str) -> Response:
    """Queue the callback, answer."""
    _task.delay(request.method, request.query_string.decode("latin-1"), request.get_data(as_text=True))
    return Response("OK\n", mimetype="text/plain")
