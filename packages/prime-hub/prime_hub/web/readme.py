"""Markdown of strangers as HTML that can only be read: no script, style, form, frame, picture or odd address scheme."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import html
import posixpath
import re
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from prime_hub.web.colouring import COLOURING
from prime_hub.web.readme_extras import ALERTS, IDS, add_footnotes, code_html, extend
from prime_hub.web.render import is_web_address

if TYPE_CHECKING:  # loaded with the first page, not with the Hub
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
    from markdown_it.utils import OptionsDict

README_CHARACTERS = 256 * 1024
"""Longer ones are cut; it takes seconds to render the oddest of this length."""

ALLOWED = """
    a abbr b blockquote br code del details div em h1 h2 h3 h4 h5 h6 hr i img kbd li ol p pre s span strong sub summary
    sup table tbody td th thead tr ul
"""
TAGS = set(ALLOWED.split())
ATTRIBUTES = {
    "a": {"href", "title"},
    "img": {"src", "alt"},
    "th": {"align"},
    "td": {"align"},
    "ol": {"start"},
    "abbr": {"title"},
    **{f"h{level}": {"id"} for level in range(2, 7)},
    "li": {"id", "class"},
    "sup": {"id"},
    "blockquote": {"class"},
    "span": {"class"},
}
CLASSES = {
    "blockquote": {f"alert alert-{kind.lower()}" for kind in ALERTS},
    "li": {"task"},
    "span": {f"c-{kind}" for kind in ("comment", "keyword", "string", "number", "name", "builtin")} | {"unseen"},
}
"""What a text may have of the page's own; others may write these, too, and do no harm by it."""
CODE_CHARACTERS, MOST_CODE = 64 * 1024, 40
"""Of a text, that are coloured."""
KEPT = 16
KEPT_CHARACTERS = 1_000_000
AT_ONCE = 2

# Browsers, and the parser here, open these again in every block until they are closed.
_FORMATTING = "a|b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u"
_OPENED = re.compile(r"<[a-z]", re.IGNORECASE)
_FORMATS = re.compile(rf"<({_FORMATTING})(?=[\s/>])", re.IGNORECASE)
_WITH_ATTRIBUTES = re.compile(rf"<({_FORMATTING.removeprefix('a|')})[\s/][^>]*>", re.IGNORECASE)
DEEPEST = 20
"""Levels that are rendered. Of what lies deeper the parser drops all that follows, so it is shown as it is written."""
MOST_STEPS = 50_000_000
MOST_OPENED_AGAIN = 300_000

# As the cleaner writes them.
_VALUES = r'(?: [a-z]+="[^"]*")*'
_TAG = re.compile(rf"<(/?[a-z][a-z0-9]*)({_VALUES}) ?/?>")
_VALUE = re.compile(r'([a-z]+)="([^"]*)"')


@dataclass(frozen=True)
class Place:
    """Where a text stands: what its relative links are about."""

    href: str = ""
    """The environment's page."""
    query: str = ""
    """`?version=…` of links that keep to a version."""
    paths: frozenset[str] = frozenset()
    """The files of the version."""
    folder: str = ""
    """The text's own folder."""

    @functools.cached_property
    def folders(self) -> frozenset[str]:
        """The folders that these files lie in."""
        found: set[str] = set()
        for path in self.paths:
            while (path := path.rpartition("/")[0]) and path not in found:
                found.add(path)
        return frozenset(found)

    def link(self, address: str, ids: Collection[str]) -> str | None:
        """Where a link of the text leads; None for nowhere."""
        try:
            parts = urlsplit(address.strip())
        except ValueError:  # `http://[`
            return None
        if parts.scheme:
            return address if is_web_address(address) or parts.scheme == "mailto" else None
        if parts.netloc:
            return None
        if not parts.path:
            name = IDS + slug(unquote(parts.fragment))
            return f"#{name}" if name in ids else None
        return self._inside(unquote(parts.path), unquote(parts.fragment))

    def _inside(self, path: str, fragment: str) -> str | None:
        wanted = posixpath.normpath(path.lstrip("/") if path.startswith("/") else posixpath.join(self.folder, path))
        if wanted.startswith("../") or wanted in ("..", "."):
            return None
        if wanted not in self.paths and wanted not in self.folders:
            return None
        where = f"{self.href}/files/{quote(wanted)}{self.query}"
        if not fragment:
            return where
        return f"{where}#{quote(IDS + slug(fragment) if is_markdown(wanted) else fragment)}"


NOWHERE = Place()


class Readmes:
    """Renders texts, a few at a time, and remembers the newest."""

    def __init__(self) -> None:
        self._at_work = asyncio.Semaphore(AT_ONCE)
        self._kept: OrderedDict[tuple[object, ...], str] = OrderedDict()

    async def html(self, text: str, place: Place) -> str:
        """The text as HTML."""
        digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
        key = (digest, place.href, place.query, place.folder, place.paths)
        found = self._kept.get(key)
        if found is None:
            async with self._at_work:
                parsed = await asyncio.to_thread(parse, text)
                for token, words in zip(parsed.code, await COLOURING.blocks(parsed.blocks), strict=True):
                    token.meta["words"] = words
                found = await asyncio.to_thread(parsed.html, place)
            if len(found) <= KEPT_CHARACTERS:
                self._kept[key] = found
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found


def is_markdown(path: str) -> bool:
    """Whether a file is shown as the README is."""
    return path.lower().endswith((".md", ".markdown"))


def slug(heading: str) -> str:
    """A heading as links name it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")[:80]


def readme_html(text: str, place: Place = NOWHERE) -> str:
    """`parse(text).html(place)`: code has no colours."""
    return parse(text).html(place)


def parse(text: str) -> Parsed:
    """A text of Markdown in tokens."""
    return Parsed(text, *_tokens(text[:README_CHARACTERS]))


@dataclass(frozen=True)
class Parsed:
    """A text in tokens, and what was noted while they were made."""

    text: str
    tokens: list[Token]
    state: dict[str, Any]

    @functools.cached_property
    def code(self) -> list[Token]:
        """The blocks of code that name their language, as many as are coloured."""
        found: list[Token] = []
        room = CODE_CHARACTERS
        for token in self.tokens:
            if token.type == "fence" and _language(token) and len(token.content) <= room and len(found) < MOST_CODE:
                found.append(token)
                room -= len(token.content)
        return found

    @property
    def blocks(self) -> list[tuple[str, str]]:
        """The language and the text of each of `code`."""
        return [(_language(token), token.content) for token in self.code]

    def html(self, place: Place) -> str:
        """HTML in which nothing runs and nothing is loaded. Relative links lead to the files of `place`."""
        import nh3

        ids: set[str] = set(self.state["ids"])
        unused = set(ids)

        def kept(tag: str, name: str, value: str) -> str | None:
            if name == "id":
                if value not in unused:
                    return None
                unused.discard(value)
            elif name == "class":
                return value if value in CLASSES.get(tag, ()) else None
            elif name in ("href", "src"):
                return place.link(value, ids)
            return value

        if max((token.level for token in self.tokens), default=0) >= DEEPEST - 1:
            rendered = f"<pre>{html.escape(self.text[:README_CHARACTERS])}</pre>"
        else:
            rendered = _markdown(True).renderer.render(self.tokens, _markdown(True).options, self.state)
        clean = nh3.clean(
            rendered,
            tags=TAGS,
            attributes=ATTRIBUTES,
            attribute_filter=kept,
            url_schemes={"http", "https", "mailto"},
            link_rel="nofollow noopener noreferrer",
            clean_content_tags={"script", "style", "template", "iframe", "object", "noscript"},
        )
        if len(self.text) > README_CHARACTERS:
            clean += "<p><em>This text is longer than the page shows; pull the environment to read the rest.</em></p>"
        return reachable(clean)


def _language(token: Token) -> str:
    """What stands above a block of code as its language, if that is the name of one."""
    word = (token.info.split() or [""])[0].lower()
    return word if re.fullmatch(r"[a-z0-9+#-]{1,20}", word) else ""


def _tokens(text: str) -> tuple[list[Token], dict[str, Any]]:
    """The text in tokens. Where its own HTML would be too much work, the HTML is shown as it is written."""
    state: dict[str, Any] = {"ids": {}}
    tokens = _markdown(True).parse(text, state)
    raw = [one for token in tokens for one in (token, *(token.children or ())) if one.type.startswith("html_")]
    opened = sum(len(_OPENED.findall(one.content)) for one in raw)
    formats = min(sum(len(_FORMATS.findall(one.content)) for one in raw), 3 * (_FORMATTING.count("|") + 1))
    blocks = opened + sum(token.nesting == 1 for token in tokens)
    if opened * blocks > MOST_STEPS or formats * blocks > MOST_OPENED_AGAIN:
        state = {"ids": {}}
        tokens = _markdown(False).parse(text, state)
    for one in raw:
        # Those that are alike are opened again three times at most.
        one.content = _WITH_ATTRIBUTES.sub(r"<\1>", one.content)
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            _name(token, tokens[at + 1], state["ids"])
    extend(tokens, state["ids"])
    return tokens, state


def _name(heading: Token, inline: Token, ids: dict[str, int]) -> None:
    words = "".join(one.content for one in inline.children or () if one.type in ("text", "code_inline"))
    name = IDS + slug(words)
    if name == IDS:
        return
    count = ids.get(name, -1) + 1
    ids[name] = count
    if count:
        name = f"{name}-{count}"
        ids.setdefault(name, 0)
    heading.attrSet("id", name)


def reachable(clean: str) -> str:
    """Pictures as links to them, and everything that may be wider than a phone in a box that scrolls, also by keyboard."""
    inside = False
    tables = 0

    def changed(found: re.Match[str]) -> str:
        nonlocal inside, tables
        name = found[1]
        if name == "pre":
            return '<pre tabindex="0">'
        if name == "table":
            tables += 1
            return f'<div class="scroll" role="region" tabindex="0" aria-label="Table {tables}"><table>'
        if name == "/table":
            return "</table></div>"
        if name in ("h1", "/h1"):  # the page has its own
            return f"<{name.replace('1', '2')}>"
        if name == "img":
            return _picture(dict(_VALUE.findall(found[2])), inside)
        if name in ("a", "/a"):
            inside = name == "a"
        return found[0]

    return _TAG.sub(changed, clean)


def _picture(values: dict[str, str], inside: bool) -> str:
    # A picture from elsewhere would tell its host who reads this page. Within quotes a cleaner may leave `<` as it is.
    values = {name: html.escape(html.unescape(value)) for name, value in values.items()}
    source = values.get("src", "")
    label = values.get("alt") or posixpath.basename(source.partition("?")[0]) or "picture"
    if inside or not source:
        return f"<em>{label}</em>"
    return f'<a href="{source}" rel="nofollow noopener noreferrer">{label}</a>'


@functools.cache
def _markdown(with_html: bool) -> MarkdownIt:
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": with_html, "maxNesting": DEEPEST}).enable(["table", "strikethrough"])
    add_footnotes(markdown)
    markdown.add_render_rule("fence", code_html)
    markdown.add_render_rule("heading_open", _heading)
    markdown.add_render_rule("heading_close", _heading)
    return markdown


def _heading(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, environment: dict[str, Any]
) -> str:
    # The page has its own h1; the text's begin one level below.
    token = tokens[index]
    level = min(int(token.tag[1]) + 1, 6)
    if token.nesting == -1:
        return f"</h{level}>\n"
    name = token.attrGet("id")
    return f'<h{level} id="{html.escape(str(name))}">' if name else f"<h{level}>"
