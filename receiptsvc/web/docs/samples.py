"""One call of the API as a program: for curl, Python and JavaScript. Each runs as it stands.

The key is read from the environment variable RECEIPTSVC_API_KEY, as the command line and the client read it.
"""

import json
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

KEY = "RECEIPTSVC_API_KEY"
JSON = "application/json"

_CSV = "text/csv"
_WIDTH = 60  # characters up to which a list or object stands on one line
_PYTHON_WORDS = {"true": "True", "false": "False", "null": "None"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A request, and the content type of its answer. `body`: of JSON; None: it has none."""

    method: str
    url: str
    needs_key: bool
    body: Any
    answer_type: str
    headers: Mapping[str, str] = field(default_factory=dict)  # beside those for key and body

    @property
    def is_stream(self) -> bool:
        """Whether the answer is read as it comes."""
        return self.answer_type != JSON

    @property
    def file(self) -> str | None:
        """The name of the file that the answer is written to. CSV may have line breaks within a cell."""
        return self.url.rpartition("/")[2] if self.answer_type == _CSV else None


def curl(call: Call) -> str:
    """The call as a command of a shell."""
    is_usual = call.method == ("GET" if call.body is None else "POST")
    options = [] if is_usual else [f"-X {call.method}"]
    if call.answer_type == "text/event-stream":
        options.append("-N")
    if call.file:
        options.append(f"--fail -o {call.file}")
    lines = [" ".join(["curl", *options, _quoted(call.url)])]
    if call.needs_key:
        lines.append(f'-H "Authorization: Bearer ${KEY}"')
    lines += [f"-H {_quoted(f'{name}: {value}')}" for name, value in call.headers.items()]
    if call.body is not None:
        lines += [f"-H 'Content-Type: {JSON}'", f"-d {_quoted(layout(call.body))}"]
    return " \\\n  ".join(lines)


def python(call: Call) -> str:
    """The call as a program of Python, with the library requests."""
    arguments = [json.dumps(call.url)]
    headers = ['"Authorization": f"Bearer {key}"'] if call.needs_key else []
    headers += [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in call.headers.items()]
    if len(headers) == 1:
        arguments.append(f"headers={{{headers[0]}}}")
    elif headers:
        arguments.append("headers={\n" + "".join(f"        {each},\n" for each in headers) + "    }")
    if call.body is not None:
        arguments.append(f"json={_indented(layout(call.body, _PYTHON_WORDS))}")
    arguments += ["stream=True", "timeout=40"] if call.is_stream else ["timeout=30"]
    request = f"requests.{call.method.lower()}(\n" + "".join(f"    {each},\n" for each in arguments) + ")"
    head = f'import os\n\nimport requests\n\nkey = os.environ["{KEY}"]\n' if call.needs_key else "import requests\n\n"
    check = "if not answer.ok:\n    raise SystemExit(answer.text)"
    if not call.is_stream:
        return f"{head}answer = {request}\n{check}\nprint(answer.json())"
    reading = (
        f'with open("{call.file}", "wb") as file:\n'
        "    for part in answer.iter_content(65536):\n        file.write(part)"
        if call.file
        else "for line in answer.iter_lines():\n    print(line.decode())"
    )
    block = _indented(f"    {check}\n{reading}")
    return f"{head}with {request} as answer:\n{block}"


def javascript(call: Call) -> str:
    """The call as a module of JavaScript, for Node 18 or later."""
    options = [] if call.method == "GET" else [f'method: "{call.method}"']
    headers = [f"Authorization: `Bearer ${{process.env.{KEY}}}`"] if call.needs_key else []
    headers += [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in call.headers.items()]
    if call.body is not None:
        headers.append(f'"Content-Type": "{JSON}"')
    if headers:
        options.append("headers: {\n" + "".join(f"    {each},\n" for each in headers) + "  }")
    if call.body is not None:
        options.append(f"body: JSON.stringify({_indented(layout(call.body), 2)})")
    written = ", {\n" + "".join(f"  {each},\n" for each in options) + "}" if options else ""
    reading = (
        "for await (const part of answer.body) process.stdout.write(part);"
        if call.is_stream
        else "console.log(await answer.json());"
    )
    return (
        f"const answer = await fetch({json.dumps(call.url)}{written});\n"
        "if (!answer.ok) throw new Error(await answer.text());\n"
        f"{reading}"
    )


LANGUAGES: Mapping[str, tuple[str, Callable[[Call], str]]] = {
    "curl": ("bash", curl),
    "Python": ("python", python),
    "JavaScript": ("javascript", javascript),
}
"""Name → the lexer that colours it, and the function that writes it."""


def layout(value: Any, words: Mapping[str, str] | None = None) -> str:
    """A JSON value in lines that are not too long. `words`: what stands in place of true, false and null."""
    flat = _flat(value, words or {})
    if len(flat) <= _WIDTH or not value or not isinstance(value, dict | list):
        return flat
    if isinstance(value, dict):
        inner = [f"{_flat(name, {})}: {_indented(layout(each, words), 2)}" for name, each in value.items()]
        opening, closing = "{}"
    else:
        inner = [_indented(layout(each, words), 2) for each in value]
        opening, closing = "[]"
    return f"{opening}\n" + ",\n".join(f"  {each}" for each in inner) + f"\n{closing}"


def _flat(value: Any, words: Mapping[str, str]) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flat(name, {})}: {_flat(each, words)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flat(each, words) for each in value) + "]"
    text = json.dumps(value, ensure_ascii=False)
    return text if isinstance(value, str) else words.get(text, text)


def _indented(text: str, spaces: int = 4) -> str:
    """A text whose lines after the first are indented."""
    first, end, rest = text.partition("\n")
    return first + end + textwrap.indent(rest, " " * spaces)


def _quoted(text: str) -> str:
    """A word of a shell, always in quotes."""
    return "'" + text.replace("'", "'\\''") + "'"
