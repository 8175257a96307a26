"""JSON that leaves the house: one text for equal values, and nothing in it that a page, log or strict reader trips over."""

import json
import math
from collections.abc import Mapping
from typing import Any, cast


def portable_json(value: Any, *, indent: int | None = None) -> str:
    """ASCII JSON with keys in the given order. Lone surrogates become U+FFFD, NaN and infinities their names as text.

    ``<``, ``>`` and ``&`` are escaped, so that the text can stand in a ``<script>`` of a page and end it nowhere.
    """
    text = json.dumps(_sound(value), ensure_ascii=True, allow_nan=False, indent=indent)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _sound(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {_sound(str(key)): _sound(one) for key, one in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_sound(one) for one in cast("list[Any] | tuple[Any, ...]", value)]
    return value
