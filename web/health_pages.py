"""Is the store well, and is one version what it says? Nothing is changed here: ways out are commands."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from schemas.errors import CorruptStore, NewerStore
from storage.questions.health import Depth, health
from storage.questions.receipt import receipt
from web import asked
from web.frame import Frame, as_json
from web.links import Links

_DEPTHS: dict[str, Depth | None] = {"": None, "files": "files", "structure": "structure", "all": "all"}


class HealthPages:
    """See ``Pages``."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.store = frame.store

    def health(self, request: Request) -> Response:
        """The whole store: its files at once; conserved rows with ``?verify=structure``, every byte with ``?verify=all``."""
        depth = _DEPTHS[asked.one_of(request.query_params, "verify", tuple(_DEPTHS))]
        return self.frame.answer(request, health(self.store, depth), "health.html", title="Store health", here="health")

    def receipt(self, request: Request) -> Response:
        """One version, file by file; with ``?verify=1`` every byte is hashed again."""
        named, is_json = asked.twin(request.path_params["version"])
        deep = asked.one_of(request.query_params, "verify", ("", "1")) == "1"
        try:
            address = self.frame.address(named)
        except (CorruptStore, NewerStore):  # the page is there to say so
            address = str(self.store.resolve(named))
        links = Links(address)
        if address != named and not is_json:
            return RedirectResponse(links.of("receipt", address, verify="1" if deep else None), 303)
        page = receipt(self.store, named, deep=deep)
        if is_json:
            return as_json(page)
        return self.frame.html(
            "receipt.html", links, page=page, title=f"Receipt of {address}", about=address, tab="receipt",
            address=address, twin=links.of("receipt", f"{address}.json", verify="1" if deep else None),
        )  # fmt: skip
