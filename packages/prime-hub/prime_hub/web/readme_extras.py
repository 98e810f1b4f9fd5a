"""What READMEs have that is no CommonMark: alerts, task lists, footnotes, columns to the right, code in colours."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prime_hub.web.colouring import piece_html

if TYPE_CHECKING:  # loaded with the first page, not with the Hub
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
    from markdown_it.utils import OptionsDict

IDS = "readme-"
"""What all ids of a text begin with."""
ALERTS = ("NOTE", "TIP", "IMPORTANT", "WARNING", "CAUTION")
MOST_WAYS_BACK = 20
"""From one footnote to the places that name it."""

_ALERT = re.compile(rf"\[!({'|'.join(ALERTS)})\]\s*", re.IGNORECASE)
_ALIGN = re.compile(r"text-align:(left|center|right)")


def extend(tokens: list[Token], ids: dict[str, int]) -> None:
    """Make of parsed Markdown what authors mean by it; the ids of footnotes are added to `ids`."""
    for at, token in enumerate(tokens):
        if token.type in ("th_open", "td_open"):
            _align(token)
        elif token.type == "blockquote_open" and token.level == 0:
            _alert(token, tokens[at + 1 : at + 3])
        elif token.type == "list_item_open":
            _task(token, tokens[at + 1 : at + 3])
        elif token.type == "footnote_open":
            ids.setdefault(f"{IDS}fn{_number(token)}", 0)
        for child in token.children or ():
            if child.type == "footnote_ref" and child.meta["subId"] < MOST_WAYS_BACK:
                ids.setdefault(f"{IDS}fnref{_number(child)}", 0)


def _align(token: Token) -> None:
    # As an attribute, since pages of this Hub take no styles from anybody.
    found = _ALIGN.fullmatch(str(token.attrGet("style") or ""))
    token.attrs.pop("style", None)
    if found:
        token.attrSet("align", found[1])


def _alert(quote: Token, inside: Sequence[Token]) -> None:
    inline = _first_inline(inside)
    if inline is None:
        return
    first = inline[0]
    kind = _ALERT.fullmatch(first.content)
    if kind is None or (len(inline) > 1 and inline[1].type not in ("softbreak", "hardbreak")):
        return
    quote.attrSet("class", f"alert alert-{kind[1].lower()}")
    opened, closed, ended = (
        first.copy(type=name, content="", tag=tag, nesting=nesting) for name, tag, nesting in _STRONG
    )
    inline[:2] = [opened, first.copy(content=kind[1].capitalize()), closed, *([ended] if len(inline) > 1 else [])]


_STRONG = (("strong_open", "strong", 1), ("strong_close", "strong", -1), ("hardbreak", "br", 0))


def _task(item: Token, inside: Sequence[Token]) -> None:
    inline = _first_inline(inside)
    if inline is None or inline[0].content[:4].lower() not in ("[ ] ", "[x] "):
        return
    item.attrSet("class", "task")
    done = inline[0].content[1] != " "
    inline[0].content = ("\u2611 " if done else "\u2610 ") + inline[0].content[4:]


def _first_inline(inside: Sequence[Token]) -> list[Token] | None:
    """The words of what begins with a paragraph that begins with words."""
    if [token.type for token in inside] != ["paragraph_open", "inline"] or not inside[1].children:
        return None
    return inside[1].children if inside[1].children[0].type == "text" else None


def add_footnotes(markdown: MarkdownIt) -> None:
    """Read `[^name]`, and show them with ids of a text's own."""
    from mdit_py_plugins.footnote import footnote_plugin

    markdown.use(footnote_plugin, inline=False)
    for name, rule in (
        ("footnote_ref", _reference),
        ("footnote_block_open", lambda *_: "<hr>\n<ol>\n"),
        ("footnote_block_close", lambda *_: "</ol>\n"),
        ("footnote_open", _footnote),
        ("footnote_close", lambda *_: "</li>\n"),
        ("footnote_anchor", _way_back),
    ):
        markdown.add_render_rule(name, rule)


def _number(token: Token) -> str:
    number, again = token.meta["id"] + 1, token.meta.get("subId", 0)
    return f"{number}-{again}" if again > 0 else str(number)


def _reference(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, environment: dict[str, Any]
) -> str:
    number = tokens[index].meta["id"] + 1
    return f'<sup id="{IDS}fnref{_number(tokens[index])}"><a href="#fn{number}" title="Footnote {number}">{number}</a></sup>'


def _footnote(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, environment: dict[str, Any]
) -> str:
    return f'<li id="{IDS}fn{_number(tokens[index])}">'


def _way_back(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, environment: dict[str, Any]
) -> str:
    if tokens[index].meta["subId"] >= MOST_WAYS_BACK:
        return ""
    return f' <a href="#fnref{_number(tokens[index])}" title="Back to the text">\u21a9</a>'


def code_html(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, environment: dict[str, Any]
) -> str:
    """A block of code, in the words that somebody has put into its token's `meta`."""
    token = tokens[index]
    words = token.meta.get("words")
    inside = "".join(piece_html(*word) for word in words) if words else html.escape(token.content, quote=False)
    return f"<pre><code>{inside}</code></pre>\n"
