"""A dataset's pages as plain files: asked of the browser itself, links made relative, what needs a server taken out.

Every link that our templates write starts with ``href="/`` or ``src="/``; text of a dataset cannot, for its quotes are
escaped. So the pages of ``provender serve`` are the pages of the site, and there is no second set to keep right.
"""

import asyncio
import hashlib
import html
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from starlette.applications import Starlette

from schemas.errors import StoreError, StoreUnwritable, UsageError
from storage.files.fs import Remote
from storage.questions.rows import rows
from storage.reports.report import write_whole
from storage.store import Store
from web.app import create_app

#: Rows and hits of one page of the site.
PER_PAGE, HITS = 25, 10
#: The policy that a published page carries itself, for no server says it.
_POLICY = (
    "<meta http-equiv=\"content-security-policy\" content=\"default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'\">"
)
_LINK = re.compile(r'(?P<name>href|src)="(?P<address>/[^"]*)"')
_FORM = re.compile(r"<form\b.*?</form>", re.DOTALL)
_COPY = re.compile(r"<button[^>]*data-copy=.*?</button>")  # a file cannot fetch its twin; the other copy buttons stay
_HEAD = '<meta charset="utf-8">'
STATIC = ("style.css", "web.js", "tables.js", "graph.js", "icon.svg")
#: Scripts that talk to a server: taken out.
_SCRIPT = re.compile(r'<script src="/static/live\.js" defer></script>')
#: Pages that the first one leads to and that a file can be; bars of histograms lead to rows on a server alone.
_BEHIND = re.compile(r"/(rows|hits|call|d|e)/")
#: Pages of rows behind the first page at most: counts by rule, by step, by source.
MOST_BEHIND = 400
_FOOT = "Reads this store, changes nothing but reviews."


class Published:
    """What was written: the first page, and how many files."""

    def __init__(self, index: Path, files: int, examples: int, left_out: int) -> None:
        self.index = index
        self.files = files
        self.examples = examples
        self.left_out = left_out  # rows of the version that have no page of their own


def publish_site(
    root: str | Path,
    dataset: str,
    out: str | Path,
    *,
    examples: int = 500,
    verify: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Published:
    """Writes the pages of one dataset into a folder, which may be put on any web server or opened from a disk.

    Receipts of its versions are written with every byte read and hashed, unless ``verify`` is False or the store lies in
    a bucket. At most ``examples`` kept and as many dropped rows get pages of their own, the first of each page of rows, so that
    every count still leads to rows. The folder must be empty or hold a site that this function wrote. Raises
    ``UsageError`` for a folder with other files, ``StoreUnwritable`` if it cannot be written.
    """
    store = Store.open(root, create=False)
    folder = Path(out)
    _ours(folder)
    app = create_app(root, allowed_hosts=("127.0.0.1",))
    about = dataset if "@" in dataset else f"{dataset}@v{store.tag_history(dataset)[-1].number}"
    ref = store.resolve(about)
    site = _Site(app, folder, about, str(ref), str(Path(root).absolute()))
    total = store.describe(ref).counts.rows_out
    site.page(f"/d/{about}")
    wanted = [f"/graph/{about}", f"/card/{about}", f"/call/{about}"]
    hits = site.count(f"/hits/{about}.json")
    wanted += [f"/hits/{about}?start={start}" for start in range(0, max(1, min(hits, examples)), HITS)]
    wanted += [
        f"/rows/{about}?start={start}" if start else f"/rows/{about}"
        for start in range(0, min(total, examples), PER_PAGE)
    ]
    wanted += [f"/rows/{about}?fate=dropped&order=margin"]
    wanted += site.behind()
    wanted += [f"/d/{manifest.ref}" for manifest in store.upstream(ref)]
    wanted += [
        f"/rows/{manifest.ref}?fate={fate}" for manifest in store.upstream(ref) for fate in _fates(manifest.counts)
    ]
    kept = [
        line.id
        for start in range(0, min(total, examples), 500)
        for line in rows(store, ref, start=start, limit=500).rows
    ]
    dropped: list[str] = []
    while len(dropped) < examples:
        page = rows(store, ref, fate="dropped", order="margin", start=len(dropped), limit=min(500, examples))
        dropped += [line.id for line in page.rows]
        if page.next is None:
            break
    deep = verify and not isinstance(store.disk.fs, Remote)
    for version in dict.fromkeys([about, *(str(manifest.ref) for manifest in store.upstream(ref))]):
        site.page(f"/receipt/{version}", asked=f"/receipt/{version}?verify=1" if deep else None)
    ids = list(dict.fromkeys([*kept[:examples], *dropped[:examples]]))
    wanted += [f"/e/{one}?in={about}" for one in ids]
    for number, address in enumerate(wanted):
        site.page(address)
        if progress:
            progress(number + 1, len(wanted))
    site.finish()
    return Published(folder / "index.html", site.files, len(ids), max(0, total - min(total, examples)))


def _fates(counts: Any) -> Iterable[str]:
    if any(i.rejected for i in counts.inputs):
        yield "reject"
    if any(i.edited for i in counts.inputs):
        yield "edit"
    if counts.refused:
        yield "refused"


def _ours(folder: Path) -> None:
    """The folder may be absent, empty, or an older site of ours."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder for the site")
    if any(folder.iterdir()) and not (folder / ".provender-site").is_file():
        raise UsageError(f"{folder} holds other files; name a new or an empty folder for the site")


class _Site:
    """Pages on their way into a folder."""

    def __init__(self, app: Starlette, folder: Path, about: str, ref: str, place: str) -> None:
        self.app = app
        self.folder = folder
        self.about = about
        self.ref = ref
        self.place = html.escape(place)  # where the store lies is nobody's business
        self.pages: dict[str, bytes] = {}  # by key: what was answered
        self.names: dict[str, str] = {}  # by key: the file

    @property
    def files(self) -> int:
        """Files that the site has."""
        return len(self.names) + len(STATIC)

    def page(self, address: str, *, asked: str | None = None) -> None:
        """Asks for a page; one that cannot be made (a damaged step, nothing refused) is left out, links to it go dead.

        ``asked`` is another address whose answer stands for it.
        """
        key = key_of(address, self.about, self.ref)
        if key in self.names:
            return
        status, body = get(self.app, asked or address)
        if status == 200:
            self.pages[key] = body
            self.names[key] = _file_name(key, first=not self.names)

    def count(self, address: str) -> int:
        """The ``total`` of a page's twin; 0 where the page cannot be made."""
        status, body = get(self.app, address)
        return int(json.loads(body).get("total") or 0) if status == 200 else 0

    def behind(self) -> list[str]:
        """What the numbers of the first page lead to."""
        first = next(iter(self.pages.values()), b"").decode("utf-8")
        led = (html.unescape(found["address"]).partition("#")[0] for found in _LINK.finditer(first))
        files = (".csv", ".jsonl", ".json")
        return [
            address
            for address in dict.fromkeys(led)
            if _BEHIND.match(address) and "min." not in address and not urlsplit(address).path.endswith(files)
        ][:MOST_BEHIND]

    def finish(self) -> None:
        """Writes everything, links between the pages made relative."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / ".provender-site", f"{self.about}\n")
            for name in STATIC:
                _, body = get(self.app, f"/static/{name}")
                write_whole(self.folder / "static" / name, body.decode("utf-8"))
            for key, body in self.pages.items():
                write_whole(self.folder / self.names[key], self._relative(body.decode("utf-8")))
        except OSError as error:
            raise StoreUnwritable(f"{self.folder} cannot be written ({error.strerror or error})") from error

    def _relative(self, text: str) -> str:
        text = _COPY.sub("", _FORM.sub("", _SCRIPT.sub("", text))).replace(_HEAD, _HEAD + _POLICY, 1)
        text = text.replace(_FOOT, "Plain files that <code>provender site</code> wrote; nothing here asks a server.", 1)
        return _LINK.sub(self._link, text.replace(self.place, "the store"))

    def _link(self, found: re.Match[str]) -> str:
        address = html.unescape(found["address"])
        bare, _, part = address.partition("#")
        if bare.startswith("/static/"):
            name = bare.removeprefix("/static/")
            return f'{found["name"]}="static/{name}"' if name in STATIC else f'{found["name"]}="#"'
        target = self.names.get(key_of(bare, self.about, self.ref))
        if target is None and bare == "/":
            target = "index.html"
        if target is None:
            return (
                'data-absent="" aria-disabled="true" role="link"' if found["name"] == "href" else 'src="static/web.js"'
            )
        return f'href="{target}{"#" + html.escape(part, quote=True) if part else ""}"'


def key_of(address: str, about: str, ref: str = "") -> str:
    """An address without what does not change the page: whose story it tells, empty parameters, their order.

    The dataset itself has one name, ``about``, whether a link says that or its ``ref``.
    """
    parts = urlsplit(address)
    path = unquote(parts.path)
    if ref and path.endswith(f"/{ref}"):
        path = path.removesuffix(ref) + about
    asked = {k: v[0] for k, v in parse_qs(parts.query).items()}
    if asked.get("in") == about:
        del asked["in"]
    if asked.get("start") == "0":
        del asked["start"]
    told = "&".join(f"{k}={asked[k]}" for k in sorted(asked))
    return path + (f"?{told}" if told else "")


def _file_name(key: str, *, first: bool) -> str:
    """A file's name: readable where the address is plain, a digest where it is not; never a path a dataset chose."""
    if first:
        return "index.html"
    if re.fullmatch(r"/[a-z-]+/[A-Za-z0-9@.-]{1,60}", key):
        return key[1:].replace("/", "-").replace("@", "-") + ".html"
    kind = re.match(r"/([a-z-]{1,12})", key)
    return f"{kind[1] if kind else 'page'}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.html"


def get(app: Starlette, address: str) -> tuple[int, bytes]:
    """Status and body of a page, asked of the app without a network. ``StoreError`` for what is our own failure."""
    return asyncio.run(_get(app, address))


async def _get(app: Starlette, address: str) -> tuple[int, bytes]:
    parts = urlsplit(address)
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": unquote(parts.path), "raw_path": parts.path.encode(), "query_string": parts.query.encode(), "root_path": "",
        "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 0), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    status = 0
    body: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            body.append(message.get("body", b""))

    try:
        await app(scope, receive, send)
    except Exception as error:  # what the app could not make is its own defect, and is named with the page
        raise StoreError(f"page {address[:200]} cannot be made: {error}") from error
    return status, b"".join(body)


__all__: Sequence[str] = ("Published", "publish_site")
