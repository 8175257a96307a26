"""provender cache: what the call cache holds, and how its answers travel from one store to another."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import DEFAULT_STORE, JsonOption, StoreOption, out, out_json, safe, say

cache = typer.Typer(
    name="cache",
    help="The answers of language models that a store keeps: paid once, never again.",
    no_args_is_help=True,
)


@cache.command("stats")
def cache_stats(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Calls, answers, failures by class, tokens and cost, in all and per model; and what the calls met on the way."""
    opened = _opened(store)
    figures = opened.stats()
    opened.close()
    if as_json:
        out_json(figures)
        return
    from cli.collecting import size
    from cli.plain import table
    from cli.run_text import met_by_model

    rows = [_row(safe(name), told) for name, told in figures["models"].items()]
    if len(rows) > 1:
        rows.append(_row("in all", figures))
    out(table(("model", "calls", "answers", "failures", "prompt tokens", "reply tokens", "cost"), rows, (1, 2, 4, 5)))
    if met := met_by_model(figures["met"]):
        out(f"\nmet on the way, all runs together:\n{met}")
    out(f"\n{opened.path}: {size(figures['size_bytes'])}")


@cache.command("export")
def cache_export(
    file: Annotated[Path, typer.Argument(help="File to make; compressed where its name ends in .zst.")],
    store: StoreOption = DEFAULT_STORE,
    answers_only: Annotated[bool, typer.Option("--answers-only", help="Leave failures out.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write every stored call to one file, with a digest in its last line. It holds prompts and replies: keep it so."""
    from cli.collecting import size
    from storage.calls.files import export_calls

    opened = _opened(store)
    done = export_calls(opened, file, failures=not answers_only, told=_counting("written"))
    opened.close()
    out_json(done) if as_json else out(
        f"{done.path}: {done.calls:,} calls, {size(done.size_bytes)}, {done.sha256[:16]}"
    )


@cache.command("import")
def cache_import(
    file: Annotated[Path, typer.Argument(help="A file that `provender cache export` wrote.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Take answers that are not here yet. The file is checked whole first; an answer that is here is never changed."""
    from storage.calls.cached_llm import CallCache
    from storage.calls.files import import_calls
    from storage.store import Store

    opened = CallCache(Store.open(store).root / "calls.sqlite")
    done = import_calls(opened, file, told=_counting("read"))
    opened.close()
    if as_json:
        out_json(done)
        return
    out(
        f"{done.path}: {done.calls:,} calls; {done.added:,} added, {done.same:,} were here, "
        f"{done.differing:,} have another answer here, which stays; {done.replaced_failures:,} replace a failure"
    )


@cache.command("forget-failures")
def cache_forget_failures(
    classes: Annotated[list[str] | None, typer.Argument(help="Classes, such as cut-off; all without one.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Drop stored failures, so that the next run asks again; answers stay."""
    opened = _opened(store)
    dropped = opened.forget_failures(classes or None)
    opened.close()
    out_json({"forgotten": dropped}) if as_json else out(f"{dropped:,} failures forgotten")


def _opened(store: Path) -> Any:
    """The cache of a store that is there."""
    from storage.calls.cached_llm import CallCache
    from storage.store import Store

    return CallCache(Store.open(store, create=False).root / "calls.sqlite")


def _row(name: str, told: Any) -> tuple[Any, ...]:
    failures = ", ".join(f"{kind} {count:,}" for kind, count in told["failures"].items()) or "none"
    cost = "unknown" if told["cost_usd"] is None else f"${told['cost_usd']:,.4f}"
    return (
        *(name, f"{told['calls']:,}", f"{told['answers']:,}", failures),
        *(f"{told['prompt_tokens']:,}", f"{told['completion_tokens']:,}", cost),
    )


def _counting(what: str) -> Any:
    """A line on stderr for every 100,000 calls."""

    def told(done: int) -> None:
        if done and done % 100_000 == 0:
            say(f"{done:,} calls {what} …")

    return told
