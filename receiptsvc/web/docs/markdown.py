"""Markdown and code as HTML, in which code breaks where a reader expects it: after `/` or `,`, not after `-`."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name

_TAG_OR_BREAK = re.compile(r"<[^>]*>|&amp;|&[#\w]+;|[/?=,]|:(?=&#34;)|[\w.:]*(?:-[\w.:]+)+")
_BREAKS = {"/", "?", "=", ",", ":", "&amp;"}
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_FORMATTER = HtmlFormatter(nowrap=True)

_ROLES = {
    "table_open": "table",
    "thead_open": "rowgroup",
    "tbody_open": "rowgroup",
    "tr_open": "row",
    "th_open": "columnheader",
    "td_open": "cell",
}


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the text below it, without its markup."""

    anchor: str
    title: str
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A document as HTML, with its sections; the first is its title."""

    html: Markup
    sections: Sequence[Section]


def anchor(heading: str) -> str:
    """A heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def html(text: str) -> Markup:
    """Markdown as HTML."""
    return Markup(_MARKDOWN.render(text))  # noqa: S704 - it escapes all that is not Markdown


def inline(text: str) -> Markup:
    """One paragraph's Markdown as HTML, without the paragraph's own tag."""
    return Markup(_MARKDOWN.renderInline(text))  # noqa: S704 - likewise


def read(text: str, find_link: Callable[[str], str | None]) -> Text:
    """A whole document. `find_link`: where a relative link, or a picture's, leads on the page; None: nowhere, only its
    text stays.
    """
    tokens = _MARKDOWN.parse(_COMMENT.sub("", text))
    for token in tokens:
        token.children = list(_relinked(token.children or (), find_link)) or None
    rendered = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    return Text(Markup(rendered), list(_sections(tokens)))  # noqa: S704 - likewise


def code(text: str, language: str | None = None) -> Markup:
    """Code as HTML, coloured if its language is named, such as `json` or `sh`."""
    if language is None:
        return _breakable(str(escape(text)))
    return _breakable(highlight(text, get_lexer_by_name(language), _FORMATTER).rstrip("\n"))


def _breakable(code_html: str) -> Markup:
    def add_break(match: re.Match[str]) -> str:
        found = match[0]
        if found in _BREAKS:
            return f"{found}<wbr>"
        is_hyphenated = "-" in found and found[0] != "<"
        return f'<span class="whole">{found}</span>' if is_hyphenated else found

    return Markup(_TAG_OR_BREAK.sub(add_break, code_html))  # noqa: S704 - what comes in is HTML


def _relinked(tokens: Sequence[Token], find_link: Callable[[str], str | None]) -> Iterator[Token]:
    is_kept, is_name = True, False
    for token in tokens:
        if token.type == "image":
            source = find_link(str(token.attrs["src"]))
            if source is None:
                yield Token("text", "", 0, content=token.content)
                continue
            token.attrs |= {"src": source, "loading": "lazy"}
        if token.type == "link_open":
            target = find_link(str(token.attrs["href"]))
            is_kept = target is not None
            token.attrs["href"] = target or ""
            is_name = is_kept
        elif token.type == "text" and is_name:
            token.content = token.content.removesuffix(".md")  # a guide's name, as a reader of the pages knows it
        is_name = is_name and token.type != "link_close"
        if is_kept or token.type not in {"link_open", "link_close"}:
            yield token


def _sections(tokens: Sequence[Token]) -> Iterator[Section]:
    title, level, texts = "", 0, list[str]()
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            if level:
                yield Section(anchor(title), title, level, " ".join(texts))
            title, level, texts = _plain(tokens[place + 1]), int(token.tag[1]), []
        elif token.type == "inline" and tokens[place - 1].type != "heading_open":
            texts.append(_plain(token))
        elif token.type == "fence":
            texts.append(token.content)
    yield Section(anchor(title), title, level, " ".join(texts))


def _plain(token: Token) -> str:
    """The text of an inline token, without its markup."""
    breaks = {"softbreak", "hardbreak"}
    return "".join(" " if child.type in breaks else child.content for child in token.children or ())


def _open_heading(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    tokens[index].attrSet("id", anchor(_plain(tokens[index + 1])))
    return renderer.renderToken(tokens, index, options, env)


def _close_heading(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    title = _plain(tokens[index - 1])
    link = f'<a class="anchor" href="#{anchor(title)}" aria-label="Link to: {escape(title)}"></a>'
    return link + renderer.renderToken(tokens, index, options, env)


def _open_part_of_table(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Narrow screens show a row as a list, each cell below its column's name. The roles keep it a table for readers."""
    token = tokens[index]
    token.attrSet("role", _ROLES[token.type])
    if token.type == "table_open":
        env["columns"] = []
    elif token.type == "tr_open":
        env["column"] = 0
    elif token.type == "th_open":
        env["columns"].append(_plain(tokens[index + 1]))
    elif token.type == "td_open":
        if tokens[index + 1].content:
            token.attrSet("data-label", env["columns"][env["column"]])
        env["column"] += 1
    return renderer.renderToken(tokens, index, options, env)


def _show_inline_code(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return f"<code>{code(tokens[index].content)}</code>"


def _show_block_of_code(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    token = tokens[index]
    return f"<pre><code>{code(token.content.rstrip(), token.info or None)}</code></pre>\n"


def _make() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False}).enable("table")  # HTML in a description is shown as text
    rules: dict[str, Callable[..., str]] = {
        "heading_open": _open_heading,
        "heading_close": _close_heading,
        "code_inline": _show_inline_code,
        "fence": _show_block_of_code,
        **dict.fromkeys(_ROLES, _open_part_of_table),
    }
    for name, rule in rules.items():
        made.add_render_rule(name, rule)
    return made


_MARKDOWN = _make()
