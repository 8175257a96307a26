"""A card as elements: what it knows of Markdown, and that hostile text stays text."""

from hypothesis import example, given
from hypothesis import strategies as st

from tests.web.parsed import PAYLOADS, Page
from web.markdown import markdown

PLAIN = frozenset(
    [
        "p",
        "h2",
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "ul",
        "li",
        "code",
        "b",
        "pre",
        "span",
        "details",
        "summary",
    ]
)


def test_headings_tables_lists_and_code_become_elements() -> None:
    text = (
        "---\nlicense:\n- mit\n---\n\n# a@v1\n\nTwo\nlines of `x`.\n\n| a | b |\n|---|---|\n| 1 \\| 2 | **3** |\n\n"
        "- one\n- two\n\n```yaml\n# no heading\n```\n"
    )
    told = str(markdown(text)).replace("\n", " ")
    assert "<details><summary>Metadata (YAML front matter)</summary><pre>license: - mit</pre></details>" in told
    assert "<h2>a@v1</h2> <p>Two lines of <code>x</code>.</p>" in told
    assert "<tr><td>1 | 2</td><td><b>3</b></td></tr>" in told
    assert '<th class="n">rows</th>' in str(markdown("| a | rows |\n|---|---|\n| x | 1,234 |\n| y | 2.5% |"))
    assert "<ul><li>one</li><li>two</li></ul>" in told
    assert '<div class="note">yaml</div><pre># no heading</pre>' in told, "the word after a fence is shown as well"


def test_entities_of_a_card_are_read_once_and_never_become_markup() -> None:
    assert str(markdown("fields &#91;&quot;a&quot;&#93; &lt;b&gt;")) == "<p>fields [&#34;a&#34;] &lt;b&gt;</p>"
    for payload in PAYLOADS:
        for around in ("%s", "# %s", "| %s |", "- %s", "`%s`", "**%s**", "```\n%s\n```"):
            page = Page(str(markdown(around.replace("%s", payload))))
            assert {tag for tag, _ in page.tags} <= PLAIN, payload
            assert all(set(attributes) <= {"class", "title"} for _, attributes in page.tags)


@example("```a")
@example("~~~~ a\na")
@given(st.text(alphabet="#|-*`\\\n &<>ab1", max_size=120))
def test_any_text_ends_and_loses_no_letter(text: str) -> None:
    page = Page(str(markdown(text)))
    if "&" not in text and not text.startswith("---"):
        assert page.text.count("a") == text.count("a")
