"""Expensive measurements are made once: create-only results of proxy runs, so that a killed step goes on where it was."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from schemas.errors import CorruptStore
from schemas.identity import canonical_json, fingerprint
from storage.files.objects import Disk


class Measured:
    """``schemas.method.Once`` over a store: ``measured/ab/<fingerprint>.json`` holds what was asked and what came out."""

    def __init__(self, disk: Disk, engines: Mapping[str, Any]) -> None:
        self._disk = disk
        self._engines = dict(engines)

    def __call__(self, what: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """The first durable result for ``what`` with these engines; made now if there is none."""
        asked = {"engines": self._engines, **what}
        name = fingerprint(asked)
        path = self._disk.root / "measured" / name[:2] / f"{name}.json"
        known = self._read(path, asked)
        if known is not None:
            return known
        result = {"asked": asked, "result": dict(make())}
        self._disk.publish((canonical_json(result) + "\n").encode(), path)
        return self._read(path, asked) or result["result"]

    def _read(self, path: Any, asked: Mapping[str, Any]) -> Mapping[str, Any] | None:
        try:
            content = json.loads(self._disk.fs.read(path))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise CorruptStore(f"{path} is no stored measurement; remove that file and run again") from error
        if not isinstance(content, dict) or canonical_json(content.get("asked")) != canonical_json(asked):
            raise CorruptStore(f"{path} holds the measurement of something else; remove that file and run again")
        return content["result"]
