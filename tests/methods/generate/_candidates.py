"""Pools of questions with several answers, and a model that obliges whatever it is asked: for the tests of response choice."""

import json
from typing import Any

import polars as pl

from backends.protocols import Reply, Request
from schemas.examples import MESSAGES, turns
from schemas.identity import digest16
from schemas.method import Generated
from tests.methods._pools import pool_of
from tests.methods.llm_doubles import asked_text


def pool_with(*rows: tuple[Any, ...], source: str | list[str] = "toy") -> pl.DataFrame:
    """EXAMPLES from ``(question, answer, {field: value})``; the fields are those of the source row."""
    pool = pool_of(*[(row[0], row[1]) for row in rows], source=source)
    extra = [json.dumps(row[2]) if len(row) > 2 else None for row in rows]
    return pool.with_columns(pl.Series("extra", extra, dtype=pl.String))


def answers_in(made: Generated) -> list[str]:
    """Last turns of what was created."""
    return [messages[-1]["content"] for messages in made.examples["messages"]]


def reasons_in(made: Generated) -> dict[str, str]:
    """Reason by refused text."""
    return dict(made.refused.select("text", "reason").iter_rows())


def evidence_in(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Evidence as values."""
    return [json.loads(text) for text in frame["evidence"]]


def obliging(request: Request) -> str | Reply:
    """Something usable for every prompt shape of response choice, different for each prompt and sample; some of it wrong."""
    text, index = asked_text(request), request.sampling.index
    number = digest16(f"{index} {text}".encode())[0]
    schema = request.sampling.json_schema or ""
    if '"title":"Rating"' in schema:
        return json.dumps({"reason": "so", "score": number % 11})
    if '"title":"Verdict"' in schema:
        return json.dumps({"explanation": "so", "answer": "ABC"[number % 3]})
    if '"title":"SameDemand"' in schema:
        return json.dumps({"reason": "so", "equal": number % 3 == 0})
    if "Alternative Reasoning:" in text:
        return f"Alternative Reasoning: halve {number}.\nFollow-up Reasoning: double {number}."
    if "Conclusion: right" in text:
        return f"Step {number} holds.\nConclusion: {'right' if number % 2 else 'wrong'}"
    if "So the answer is <answer>" in text:
        return f"We look at {number} of them. So the answer is {number % 5}."
    if number % 7 == 0:
        return Reply(failure="timeout", finish_reason="error")
    return f"Well {number}: 2 + {number % 4} = {2 + number % 4}, so the answer is {2 + number % 4}."


def with_system(pool: pl.DataFrame, text: str) -> pl.DataFrame:
    """The same examples under a system turn."""
    messages = [[*turns(("system", text)), *row] for row in pool["messages"].to_list()]
    return pool.with_columns(pl.Series("messages", messages, dtype=MESSAGES))
