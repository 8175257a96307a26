"""What can be wrong with an answer: faults before any work was done (not billed) and after it (billed)."""

import asyncio
import email.utils
import hashlib
import json
import socket
import struct
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass
class Answer:
    """A good body, to be spoilt."""

    body: dict[str, Any]


def chance(seed: int, prompt: str, attempt: int, what: str) -> float:
    """A number in [0, 1) that depends on nothing else."""
    digest = hashlib.sha256(f"{seed}|{prompt}|{attempt}|{what}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def answer_text(prompt: str) -> str:
    """The one right answer to a prompt (as JSON text), so that a test sees whether replies were mixed up."""
    return "answer " + hashlib.sha256(prompt.encode()).hexdigest()[:12]


def fake_ids(body: dict[str, Any]) -> list[int]:
    """A tokenizer: a word is its CRC; 1 opens a turn, 2 ends it, 3 is the line end after it, 4 opens the assistant's."""
    if "messages" not in body:
        start = [9] if body.get("add_special_tokens", True) else []
        return start + [zlib.crc32(word.encode()) for word in body["prompt"].split()]
    ids: list[int] = []
    for turn in body["messages"]:
        opening = 4 if turn["role"] == "assistant" else 1
        ids += [opening, *(zlib.crc32(word.encode()) for word in turn["content"].split()), 2, 3]
    return [*ids, 4] if body.get("add_generation_prompt") else ids


def logprob_of(token: int) -> float:
    """The planted log-probability of a token."""
    return -(token % 97) / 10


async def packed(writer: asyncio.StreamWriter, status: int, reason: str, body: Any, extra: str = "") -> bool:
    """Send a complete answer; the connection lives on."""
    raw = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {len(raw)}\r\n{extra}\r\n"
    writer.write(head.encode() + raw)
    await writer.drain()
    return True


def _status(status: int, extra: Callable[[], str] = lambda: "") -> Callable[..., Awaitable[bool]]:
    async def fault(writer: asyncio.StreamWriter, headers: dict[str, str]) -> bool:
        return await packed(writer, status, "Fault", {"error": {"message": f"injected {status}"}}, extra())

    return fault


async def _quota(writer: asyncio.StreamWriter, headers: dict[str, str]) -> bool:
    error = {"code": "insufficient_quota", "message": "You exceeded your current quota"}
    return await packed(writer, 429, "Too Many Requests", {"error": error})


async def _hang(writer: asyncio.StreamWriter, headers: dict[str, str]) -> bool:
    await asyncio.sleep(3600)
    return False


async def _reset(writer: asyncio.StreamWriter, headers: dict[str, str]) -> bool:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False


async def _leak(writer: asyncio.StreamWriter, headers: dict[str, str]) -> bool:
    said = f"bad request with {headers.get('authorization', 'no key')}"
    return await packed(writer, 400, "Bad Request", {"error": {"message": said}})


def _date_later() -> str:
    return f"retry-after: {email.utils.formatdate(time.time() + 1, usegmt=True)}\r\n"


BEFORE: dict[str, Callable[..., Awaitable[bool]]] = {
    "429": _status(429),
    "429-seconds": _status(429, lambda: "retry-after: 1\r\n"),
    "429-date": _status(429, _date_later),
    "429-absurd": _status(429, lambda: "retry-after: 86400000\r\n"),
    "429-quota": _quota,
    "408": _status(408),
    "500": _status(500),
    "502": _status(502),
    "503": _status(503),
    "529": _status(529),
    "clock-skew": _status(
        503, lambda: "date: Thu, 01 Jan 1970 00:00:00 GMT\r\nretry-after: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    ),
    "hang": _hang,
    "reset": _reset,
    "leak": _leak,
}


def _spoilt(spoil: Callable[[dict[str, Any], dict[str, Any], bool], Any]) -> Callable[..., Awaitable[bool]]:
    """A fault that changes the body: ``spoil(body, choice, chat)`` in place, or returns what is sent instead."""

    async def fault(writer: asyncio.StreamWriter, answer: Answer, chat: bool) -> bool:
        instead = spoil(answer.body, answer.body["choices"][0], chat)
        return await packed(writer, 200, "OK", answer.body if instead is None else instead)

    return fault


def _say(choice: dict[str, Any], chat: bool, text: str) -> None:
    if chat:
        choice["message"]["content"] = text
    else:
        choice["text"] = text


async def _head(writer: asyncio.StreamWriter, length: int, extra: str = "") -> None:
    writer.write(
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{extra}\r\n".encode()
    )
    await writer.drain()


async def _truncated(writer: asyncio.StreamWriter, answer: Answer, chat: bool) -> bool:
    raw = json.dumps(answer.body).encode()
    await _head(writer, len(raw))
    writer.write(raw[: len(raw) // 2])
    await writer.drain()
    return False


async def _wrong_length(writer: asyncio.StreamWriter, answer: Answer, chat: bool) -> bool:
    raw = json.dumps(answer.body).encode()
    await _head(writer, len(raw) - 10)
    writer.write(raw)
    await writer.drain()
    return False


async def _hang_mid_body(writer: asyncio.StreamWriter, answer: Answer, chat: bool) -> bool:
    raw = json.dumps(answer.body).encode()
    await _head(writer, len(raw))
    writer.write(raw[:20])
    await writer.drain()
    await asyncio.sleep(3600)
    return False


async def _drip(writer: asyncio.StreamWriter, answer: Answer, chat: bool) -> bool:
    raw = json.dumps(answer.body).encode()
    await _head(writer, len(raw))
    for byte in raw:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.2)
    return True


@cache
def _bomb_bytes() -> bytes:
    pack = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return b"".join(pack.compress(b" " * 1_000_000) for _ in range(100)) + pack.flush()


async def _bomb(writer: asyncio.StreamWriter, answer: Answer, chat: bool) -> bool:
    raw = _bomb_bytes()
    await _head(writer, len(raw), "content-encoding: gzip\r\n")
    writer.write(raw)
    await writer.drain()
    return True


AFTER: dict[str, Callable[..., Awaitable[bool]]] = {
    "truncated": _truncated,
    "wrong-length": _wrong_length,
    "hang-mid-body": _hang_mid_body,
    "drip": _drip,
    "gzip-bomb": _bomb,
    "undecodable": _spoilt(lambda body, choice, chat: '{"choices": [{"mess'),
    "html": _spoilt(lambda body, choice, chat: "<html><body>Bad gateway</body></html>"),
    "huge": _spoilt(lambda body, choice, chat: _say(choice, chat, "x" * 11_000_000)),
    "no-choices": _spoilt(lambda body, choice, chat: {**body, "choices": []}),
    "two-choices": _spoilt(lambda body, choice, chat: {**body, "choices": [choice, choice]}),
    "empty": _spoilt(lambda body, choice, chat: _say(choice, chat, "  ")),
    "length": _spoilt(lambda body, choice, chat: choice.update(finish_reason="length")),
    "filtered": _spoilt(lambda body, choice, chat: choice.update(finish_reason="content_filter")),
    "wrong-schema": _spoilt(lambda body, choice, chat: _say(choice, chat, '{"answer": 5}')),
    "nan": _spoilt(lambda body, choice, chat: json.dumps(body)[:-1] + ', "x": NaN}'),
    "surrogate": _spoilt(lambda body, choice, chat: _say(choice, chat, "half \ud800 a letter")),
    "no-usage": _spoilt(lambda body, choice, chat: {k: v for k, v in body.items() if k != "usage"}),
    "negative-usage": _spoilt(lambda body, choice, chat: body["usage"].update(completion_tokens=-5)),
    "other-model": _spoilt(lambda body, choice, chat: {**body, "model": "someone-else"}),
    "tool-calls": _spoilt(
        lambda body, choice, chat: choice.update(message={"content": None}, finish_reason="tool_calls")
    ),
}
