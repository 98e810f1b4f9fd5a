"""READMEs that mean harm are harmless, and can be read all the same."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from prime_hub.web.readme import CLASSES as KNOWN
from prime_hub.web.readme import Place, Readmes, parse, reachable, readme_html

ALLOWED = {"href", "title", "rel", "align", "start", "id", "tabindex", "role", "aria-label", "class"}
PLACE = Place("/here", "?version=1", frozenset({"a.py", "docs/b.md", "docs/c.png"}))


class Read(HTMLParser):
    """HTML as it comes out: its elements, its words, and how deep they lie."""

    def __init__(self, text: str, place: Place = PLACE) -> None:
        super().__init__()
        self.html = readme_html(text, place)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(self.html)
        for tag, attributes in self.elements:
            assert tag not in (
                "script",
                "style",
                "img",
                "iframe",
                "form",
                "input",
                "button",
                "svg",
                "h1",
                "base",
                "meta",
            )
            assert attributes.keys() <= ALLOWED, (tag, attributes)
            link = attributes.get("href") or "#"
            assert re.match(r"https?://|mailto:|#readme-|/here/files/|#$", link), link
            assert attributes.get("class") in (None, "scroll", *KNOWN.get(tag, ())), "no other class of the page's own"
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids)) and all((one or "").startswith("readme-") for one in ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>\n\nwords",
        "<SCRIPT SRC=//evil.example/x.js></SCRIPT>words",
        "<scr<script>ipt>alert(1)</scr</script>ipt>words",
        '<p onclick="alert(1)" onmouseover=alert(2) style="position:fixed">words</p>',
        '<img src=x onerror="alert(1)">words',
        "<svg onload=alert(1)><a xlink:href=javascript:alert(1)>x</a></svg>words",
        "<math><mtext></p><img src=x onerror=alert(1)></mtext></math>words",
        "[words](javascript:alert(1)) [x](JaVaScRiPt:alert(1)) [y](java&#10;script:alert(1)) [z](vbscript:x)",
        '<a href="javascript:alert(1)">words</a><a href=" &#14; javascript:alert(1)">x</a>',
        '<a href="data:text/html;base64,PHNjcmlwdD4=">words</a> ![x](data:image/svg+xml;base64,AAAA)',
        '<a href="//evil.example">words</a> <a href="\\\\evil.example">x</a> [y](/\\evil.example)',
        '<form action="https://evil.example"><input name=a><button>words</button></form>',
        '<iframe srcdoc="<script>alert(1)</script>"></iframe><object data=x></object><embed src=x>words',
        '<base href="https://evil.example/"><meta http-equiv=refresh content="0;url=https://evil.example">words',
        '<h2 id="content" class="top">words</h2><div id="q" class="hidden">more</div>',
        "<style>body{display:none}</style><link rel=stylesheet href=x>words",
        "<!-- <script> --> words --!> <![CDATA[ <script>alert(1)</script> ]]>",
        "# words\n\n<h2 id=readme-words>again</h2>\n\n# words\n\n# words-1",
        "</article></main></body></html><h1>words</h1>",
        "\0 words \ufffe \u202e",
    ],
)
def test_nothing_runs_and_nothing_is_loaded(text: str) -> None:
    found = Read(text)
    assert "words" in found.text
    for sign in ("javascript:", "data:", "vbscript:", "evil.example"):
        assert not any(sign in (one.get("href") or "").lower() for one in found.named("a"))


def test_broken_html_and_markdown_can_be_read() -> None:
    found = Read("<div><b>one <i>two\n\n</table>three</td> <li>four\n\n```\n<b>five\n\n| a\n|---\n| six `")
    for word in ("one", "two", "three", "four", "five", "six"):
        assert word in found.text


@pytest.mark.parametrize(
    "text",
    [
        "<div>" * 20_000,
        "<b>" * 20_000,
        "".join(f"<b a={number}>" for number in range(500)) + "\n\n" + "word\n\n" * 3000,
        "<blockquote>" * 3000,
        "<table><tr><td>" * 3000,
        ">" * 20_000,
        "[" * 20_000,
        "".join("  " * depth + "- deeper\n" for depth in range(200)),
    ],
    ids=["div", "b", "formatting", "blockquote", "tables", "quote", "brackets", "lists"],
)
def test_what_is_very_deep_or_very_many(text: str) -> None:
    found = Read(f"before\n\n{text}\n\nafter")
    assert "before" in found.text and "after" in found.text
    assert len(found.html) < 30 * len(text) + 1000


def test_a_table_of_five_thousand_rows() -> None:
    rows = "".join(f"| row {number} | `<b>` | {'long ' * 5} |\n" for number in range(5000))
    found = Read(f"| a | b | c |\n|---|:-:|--:|\n{rows}")
    assert len(found.named("tr")) == 5001 and "row 4999" in found.text and not found.named("b")


def test_what_is_wide_scrolls_by_itself_and_by_keyboard() -> None:
    found = Read("| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx = 1\n```\n\n<table><tr><td>3</td></tr></table>")
    boxes = [one for one in found.named("div") if one.get("class") == "scroll"]
    assert [box["tabindex"] for box in boxes] == ["0", "0"] and [box["role"] for box in boxes] == ["region", "region"]
    assert [box["aria-label"] for box in boxes] == ["Table 1", "Table 2"]
    assert found.named("pre") == [{"tabindex": "0"}]
    assert found.html.count("</table></div>") == 2


def test_pictures_are_links() -> None:
    found = Read(
        '![The <b>](docs/c.png "t") <img src="https://example.org/x.png" alt="far > off"> [![in](x.png)](a.py)'
    )
    hrefs = [one.get("href") for one in found.named("a")]
    assert hrefs == ["/here/files/docs/c.png?version=1", "https://example.org/x.png", "/here/files/a.py?version=1"]
    assert "far > off" in found.text and "in" in found.text


def test_links_from_a_folder() -> None:
    place = Place("/here", "", PLACE.paths, "docs")
    found = Read(
        "[a](../a.py#L3) [b](b.md#Some%20Words) [c](/docs/c.png?raw=true) [d](../../a.py) [e](a.py) [f](.)", place
    )
    assert [one.get("href") for one in found.named("a")] == [
        "/here/files/a.py#L3",
        "/here/files/docs/b.md#readme-some-words",
        "/here/files/docs/c.png",
        None,
        None,
        "/here/files/docs",
    ]


def test_a_long_one_is_cut() -> None:
    found = Read("word " * 100_000)
    assert len(found.html) < 300_000 and "longer than the page shows" in found.text


def test_what_a_cleaner_leaves_within_quotes_stays_words() -> None:
    # Some cleaners write `<` and `>` in values as they are.
    found = reachable(
        '<p><img src="https://example.org/?a=1&amp;b" alt="<script>alert(1)</script> &lt;b&gt;">'
        '<a href="#x" title="<img alt=\'y\'><table>">in <img alt="<b>"></a></p>'
    )
    assert found == (
        '<p><a href="https://example.org/?a=1&amp;b" rel="nofollow noopener noreferrer">'
        "&lt;script&gt;alert(1)&lt;/script&gt; &lt;b&gt;</a>"
        '<a href="#x" title="<img alt=\'y\'><table>">in <em>&lt;b&gt;</em></a></p>'
    )


def test_alerts_and_task_lists() -> None:
    found = Read("> [!WARNING]\n> Not *yet*.\n\n> [!tip]\n\n> [!NOTE] not one\n\n- [x] done\n- [ ] open\n- [y] none\n")
    assert [one.get("class") for one in found.named("blockquote")] == ["alert alert-warning", "alert alert-tip", None]
    assert "<strong>Warning</strong><br>\nNot <em>yet</em>." in found.html and "[!WARNING]" not in found.text
    assert [one.get("class") for one in found.named("li")] == ["task", "task", None]
    assert "\u2611 done" in found.text and "\u2610 open" in found.text and "[y] none" in found.text


def test_footnotes_lead_there_and_back() -> None:
    found = Read("One[^a] and two[^b], again[^a] and[^none].\n\n[^a]: The first.\n[^b]: The <script>second</script>.\n")
    assert [one["href"] for one in found.named("a")] == [
        *("#readme-fn1", "#readme-fn2", "#readme-fn1"),
        *("#readme-fnref1", "#readme-fnref1-1", "#readme-fnref2"),
    ]
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert ids == [f"readme-{name}" for name in ("fnref1", "fnref2", "fnref1-1", "fn1", "fn2")]
    assert "The first." in found.text and "[^none]" in found.text
    many = Read("x" + "[^a]" * 30_000 + "\n\n[^a]: y\n")
    assert (
        len(many.html) < 40 * 120_000 and len([one for one in many.named("a") if "fnref" in (one["href"] or "")]) == 20
    )


def test_columns_stand_where_they_belong() -> None:
    found = Read("| a | b | c |\n|:--|:-:|--:|\n| 1 | 2 | 3 |\n")
    assert [one.get("align") for one in found.named("td")] == ["left", "center", "right"]


async def test_code_has_colours() -> None:
    code = 'def one(text: str) -> int:\n    return "<b>" + text  # twice\n'
    text = f"```python\n{code}```\n\n```nonsense\nx = 1\n```\n\n```\nplain = 1\n```\n"
    shown = await Readmes().html(text, PLACE)
    assert '<span class="c-keyword">def</span>' in shown and "&lt;b&gt;" in shown and "<b>" not in shown
    assert "<code>x = 1\n</code>" in shown and "<code>plain = 1\n</code>" in shown
    assert re.sub(r"<[^>]*>", "", shown) == re.sub(r"<[^>]*>", "", readme_html(text, PLACE))
    many = parse("".join(f"```python\n{'x = 1' * 1000}\n```\n" for _ in range(100)))
    assert len(many.blocks) == 13, "what is coloured of a text is bounded"


def test_nobody_takes_a_class_of_the_page() -> None:
    found = Read('<span class="hidden">x</span><li class="task">y</li><span class="c-name">z</span>')
    assert [one.get("class") for one in found.named("span")] == [None, "c-name"]
