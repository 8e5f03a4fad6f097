"""The first page, `Now`: whether something is wrong, the numbers that tell how the service does, and charts.

It opens with what the process knows (`board`), and a stream keeps it as it is now (`server.page_feed`).
"""

from flask import Flask, Response, current_app, request
from flask.blueprints import BlueprintSetupState

from receiptsvc.server.application import MAX_STREAMS
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.ops import charts, pages
from receiptsvc.web.ops.board import Board
from receiptsvc.web.ops.pages import blueprint, signed_in

_EXTENSION = "receiptsvc.board"
_TEMPLATES = ("now", "now_verdict", "now_numbers", "now_charts", "chart", "layout")
_SHARE = 4  # of the connections that streams may have, this part of all
_MAX_TAGS = 10


@blueprint.get("")
@signed_in
def read_now() -> Response:
    """The page."""
    snapshot, parts = board_of(current_app).show()
    return pages.render(
        "now.html", parts=parts, at=snapshot.at, statuses=charts.ORDER, width=charts.WIDTH, height=charts.HEIGHT
    )


@blueprint.get("/now")
@signed_in
def follow_now() -> Response:
    """The stream that keeps the page as it is now. `have`: the tags of its parts."""
    tags = request.args.get("have", "").split(",")[:_MAX_TAGS]
    most = request.environ.get(MAX_STREAMS)
    viewer, limit = pages.viewer(), None if most is None else max(1, most // _SHARE)
    stream = board_of(current_app).feed.open(viewer.session_id, tags, limit, who=viewer.actor)
    if stream is None:
        raise Problem(503, "As many pages are open as can be kept up to date at once.")
    # Passed through untouched, so that the server recognises it; not buffered by nginx.
    response = Response(stream, content_type="text/event-stream", direct_passthrough=True)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def board_of(app: Flask) -> Board:
    """The board of this process."""
    board: Board = app.extensions[_EXTENSION]
    return board


def prepare(app: Flask) -> None:
    """Make the page once, so that who opens it first does not wait for that. For a thread of its own."""
    for name in _TEMPLATES:
        app.jinja_env.get_template(f"ops/{name}.html")
    board_of(app).look()


def _make_board(state: BlueprintSetupState) -> None:
    if isinstance(state.app, Flask):
        state.app.extensions[_EXTENSION] = Board(state.app)


blueprint.record_once(_make_board)
