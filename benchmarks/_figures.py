"""Figures of a long benchmark, one question each, in a file, so that nothing is measured twice."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Found = Mapping[str, Any]


class Figures:
    """Lines of JSON, one per measurement, in a file; without a file nothing outlives the process."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, Found] = {}
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = path.read_text("utf-8").splitlines() if path.exists() else []
            self._known = {_key(one["asked"]): one["found"] for one in map(json.loads, lines)}

    def get(self, asked: Found) -> Found | None:
        """What was measured for this question, by any earlier run."""
        return self._known.get(_key(asked))

    def put(self, asked: Found, found: Found) -> Found:
        """Remember it; what was refused is not kept, since the next run may have what was missing."""
        if self._path and "refused" not in found:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"asked": asked, "found": found}, sort_keys=True) + "\n")
        return found


def _key(asked: Found) -> str:
    return json.dumps(asked, sort_keys=True)
