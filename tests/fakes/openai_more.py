"""The fake server's other addresses: embeddings of any text, and replies that come in pieces."""

import asyncio
import hashlib
import json
from typing import Any

DIMENSIONS = 16


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """One vector per text: unit length, the same for the same text, decided by its hash."""
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [{"object": "embedding", "index": i, "embedding": vector(text)} for i, text in enumerate(texts)]
    count = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "model": body.get("model", "fake"), "data": data, "usage": usage}


def vector(text: str) -> list[float]:
    """A unit vector of 16 numbers."""
    digest = hashlib.sha256(text.encode()).digest()
    values = [int.from_bytes(digest[2 * i : 2 * i + 2], "big") / 2**15 - 1.0 for i in range(DIMENSIONS)]
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]


async def streamed(writer: asyncio.StreamWriter, answer: dict[str, Any], chat: bool) -> bool:
    """The answer as server-sent events, a word at a time, usage in the last one; the connection is closed after it."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    choice = answer["choices"][0]
    text = choice["message"]["content"] if chat else choice["text"]
    words = text.split(" ")
    for i, word in enumerate(words):
        piece = word if i == 0 else f" {word}"
        delta: dict[str, Any] = {"index": 0, "finish_reason": None}
        delta |= {"delta": {"content": piece}} if chat else {"text": piece}
        await _event(writer, {"id": answer["id"], "model": answer["model"], "choices": [delta]})
    last: dict[str, Any] = {"index": 0, "finish_reason": choice["finish_reason"]}
    last |= {"delta": {}} if chat else {"text": ""}
    await _event(writer, {"id": answer["id"], "model": answer["model"], "choices": [last], "usage": answer["usage"]})
    writer.write(b"data: [DONE]\n\n")
    await writer.drain()
    return False


async def _event(writer: asyncio.StreamWriter, value: dict[str, Any]) -> None:
    writer.write(b"data: " + json.dumps(value).encode() + b"\n\n")
    await writer.drain()
