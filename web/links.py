"""Addresses of pages. Whatever a dataset named is quoted; no text of a dataset becomes a scheme or a host."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode


@dataclass(frozen=True)
class Links:
    """Addresses as seen from one dataset: ``within`` is the tag or ref whose story the pages tell."""

    within: str

    def version(self, ref: str) -> str:
        """The page of a ref, tag or ``name@vN``."""
        return self.of("d", ref)

    def of(self, page: str, ref: str, **asked: Any) -> str:
        """A page about one version: ``rows``, ``what-if``, ``sql``, ``graph``, ``hits``, ``card``."""
        query = self._query(asked)
        return f"/{page}/{quote(ref, safe='@/')}" + (f"?{query}" if query else "")

    def rows(self, ref: str, fate: str = "member", rule: str | None = None, **more: Any) -> str:
        """The rows behind a number."""
        asked = {"fate": None if fate == "member" else fate, "rule": rule, "in": self.within, **more}
        return self.of("rows", ref, **asked)

    def source(self, ref: str, source: str, license: str | None = None) -> str:
        """The members of a version that came from one source, or only those under one of its licences."""
        return self.rows(ref, source=source, license=license)

    def example(self, id_: str, **more: Any) -> str:
        """The page of an example."""
        return f"/e/{quote(id_, safe='')}?{self._query({'in': self.within, **more})}"

    def near(self, id_: str) -> str:
        """What reads like an example."""
        return f"/near/{quote(id_, safe='')}?{self._query({'in': self.within})}"

    def blast(self, kind: str, name: str, **more: Any) -> str:
        """Everything that came from a cause."""
        return f"/blast?{self._query({'kind': kind, 'name': name, **more})}"

    def hits(self, benchmark: str) -> str:
        """Hits of one benchmark, beside its items."""
        return self.of("hits", self.within, benchmark=benchmark)

    def calls(self, ref: str | None = None, state: str | None = None) -> str:
        """Calls of models on the way to what the pages are about; of one step alone if ``ref`` names it."""
        return self.of("call", self.within or ref or "", step=ref if self.within else None, state=state)

    def run(self, run_id: str) -> str:
        """The page of a run."""
        return f"/runs/{quote(run_id, safe='')}"

    def asked(self, path: str, **asked: Any) -> str:
        """A page with parameters; those that are None or empty are left out."""
        query = self._query(asked)
        return path + (f"?{query}" if query else "")

    def _query(self, asked: dict[str, Any]) -> str:
        return urlencode({key: value for key, value in asked.items() if value not in (None, "")})

    def functions(self) -> dict[str, Any]:
        """Under the names that shared templates call."""
        return {
            "rows_link": self.rows,
            "source_link": self.source,
            "version_link": self.version,
            "example_link": self.example,
            "blast_link": self.blast,
            "hits_link": self.hits,
            "calls_link": self.calls,
        }
