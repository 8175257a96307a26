"""Benchmarks for the tests of decontamination: items as frames."""

import polars as pl


def items_of(*pairs: tuple[str, str | None]) -> pl.DataFrame:
    """Items ``i0, i1 …`` from (prompt, answer)."""
    return pl.DataFrame(
        {
            "item": [f"i{k}" for k in range(len(pairs))],
            "prompt": [p for p, _ in pairs],
            "answer": [a for _, a in pairs],
        },
        {"item": pl.String, "prompt": pl.String, "answer": pl.String},
    )
