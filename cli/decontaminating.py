"""`decontaminate` and its sub-verbs: run it, only check, review the hits, report on them, test the rules on planted leaks."""

import getpass
import os
import sys
from typing import Annotated, Any

import typer

from cli.console import DEFAULT_STORE, JsonOption, StoreOption, out, out_json, say
from cli.groups import with_default
from cli.stages import LLM, Embed, Fields, Input, Plainly, Seed, Tag

decontaminate = typer.Typer(
    cls=with_default("run"),
    help="Drop what gives a benchmark away (`decontaminate FILE`); check, review, report, self-test.",
    no_args_is_help=True,
)

Against = Annotated[
    list[str],
    typer.Option("--against", help="A pack's name, a file or hub:owner/name@commit; repeatable. All if absent."),
]
Methods = Annotated[
    list[str], typer.Option("--method", "-m", help="A decontaminate method; repeatable, applied in turn.")
]
Judge = Annotated[str | None, typer.Option("--judge", help="The LLM that judges, as for --llm; --llm if absent.")]
Reviewed = Annotated[
    str, typer.Argument(help="A tag or ref: a decontaminate step, or anything made from one.", show_default=False)
]
Rule = Annotated[str | None, typer.Option("--rule", help="Only hits of this rule.")]
Benchmark = Annotated[str | None, typer.Option("--benchmark", help="Only hits on this benchmark.")]


@decontaminate.command("run")
def run(
    pool: Input, against: Against = [], method: Methods = ["ngram-coverage"], set_: Fields = [],
    report_only: Annotated[bool, typer.Option("--report-only", help="Flag, but keep everything.")] = False,
    max_source_overlap: Annotated[
        float | None, typer.Option(help="Drop whole sources with more of a benchmark's items than this share.")
    ] = None,
    tag: Tag = None, llm: LLM = None, embed: Embed = None, judge: Judge = None, rng_seed: Seed = 0,
    store: StoreOption = DEFAULT_STORE, without_prefect: Plainly = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Drop what gives a benchmark away; without --against, every pack that has a name here."""
    from cli.stages import finish
    from flows.decontaminate import decontaminate as flow
    from tasks.adhoc import must_be_there
    from tasks.decontaminate import Policy

    must_be_there([pool], store, tag)  # the last method would be the first to hear of the tag
    chosen = methods_of(method, set_)
    policy = Policy(report_only=report_only, max_source_overlap=max_source_overlap)
    common: dict[str, Any] = {
        "benchmarks": names_of(against),
        "backends": engines_for(chosen, llm, embed, judge),
        "policy": policy,
    }
    for by in chosen[:-1]:
        pool = finish(flow, without_prefect, True, store, told=False, pool=pool, by=by, rng_seed=rng_seed, **common)
    finish(flow, without_prefect, as_json, store, pool=pool, by=chosen[-1], tag=tag, rng_seed=rng_seed, **common)


@decontaminate.command("check")
def check(
    data: Input, against: Against = [], method: Methods = ["ngram-coverage"], set_: Fields = [],
    fail_above: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit with 7 when a larger share is flagged: for scripts.")
    ] = None,
    show: Annotated[int, typer.Option("--show", min=0, help="Hits to quote below the table.")] = 5,
    llm: LLM = None, embed: Embed = None, judge: Judge = None, rng_seed: Seed = 0,
    store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Run rules on any file or stored dataset without a recipe; nothing is dropped, the hits can be reviewed."""
    from cli import reviewing
    from cli.progress import watching
    from schemas.lineage import DatasetRef
    from storage.files.places import shown
    from storage.packs.reviews import hits
    from tasks.adhoc import adhoc_bench, taken_in
    from tasks.bench import open_store
    from tasks.contamination import check_of, without_repeats
    from tasks.decontaminate import Policy, decontaminate_examples

    chosen = methods_of(method, set_)
    bench = adhoc_bench(store, engines_for(chosen, llm, embed, judge), rng_seed)
    with watching(quiet=as_json):
        given = taken_in(data, bench)
        pool = without_repeats(open_store(bench), given)
        policy = Policy(report_only=True)
        steps: list[DatasetRef] = [decontaminate_examples(pool, names_of(against), by, bench, policy) for by in chosen]
    found = check_of(open_store(bench), pool, steps)
    if as_json:
        out_json(found)
    else:
        if pool != given:
            say(f"{given} repeats examples; {pool}, which it was mixed from, is looked at")
        out(reviewing.check_text(found))
        for ref in steps:
            for hit in hits(open_store(bench), ref, limit=show):
                out("\n" + reviewing.hit_line(hit))
        if found.flagged:
            say(f"review: provender decontaminate review {steps[0]} --store {shown(store)}")
    if fail_above is not None and found.fraction > fail_above:
        raise typer.Exit(7)


@decontaminate.command("review")
def review(
    dataset: Reviewed, rule: Rule = None, benchmark: Benchmark = None,
    hit: Annotated[str | None, typer.Option("--hit", help="One hit, by the first digits of its key.")] = None,
    accept: Annotated[bool, typer.Option("--accept", help="It is a leak (needs --hit).")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="It is a false alarm (needs --hit).")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why, for whoever reads it later.")] = "",
    who: Annotated[str | None, typer.Option("--who", help="Who reviews; your login if absent.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also hits that were reviewed already.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Hits at most.")] = 100,
    store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Look at hits side by side and accept or reject each; verdicts are kept beside the store, with who, when and why."""
    from cli import reviewing
    from schemas.errors import UsageError
    from storage.packs.reviews import hits, record
    from storage.store import Store

    opened = Store.open(store, create=False)
    ref = opened.resolve(dataset)
    if (accept and reject) or ((accept or reject) and not hit):
        raise UsageError("a verdict is --hit KEY with either --accept or --reject; without them hits are shown in turn")
    pending = not again and hit is None
    listed = hits(opened, ref, rule=rule, benchmark=benchmark, unreviewed=pending, limit=None if hit else limit)
    if hit:
        listed = [one for one in listed if one.key.startswith(hit.lower())]
        if len(listed) != 1:
            raise UsageError(f"{len(listed)} hits of {ref} have a key that begins with {hit[:40]!a}; give one hit's")
    reviewer = who or reviewer_name()
    if accept or reject:
        done = record(opened, listed[0], "accept" if accept else "reject", who=reviewer, reason=reason)
        out_json(done) if as_json else out(f"{done.key[:12]} {done.verdict}ed by {reviewing.line(done.who)}")
    elif as_json:
        out_json(listed)
    elif not sys.stdin.isatty():
        out("\n\n".join(reviewing.side_by_side(one) for one in listed) or "no hit is left to review")
    else:
        reviewing.review_in_turn(opened, listed, reviewer)


@decontaminate.command("report")
def report(dataset: Reviewed, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """What each rule found on each benchmark, and its reviewed precision with a 95 % interval (Wilson)."""
    from cli import reviewing
    from storage.packs.reviews import steps_behind
    from storage.store import Store
    from tasks.contamination import found_by
    from tasks.reviewed import precision

    opened = Store.open(store, create=False)
    ref = opened.resolve(dataset)
    found = [line for step in steps_behind(opened, ref) for line in found_by(opened, step)]
    reviewed = precision(opened, ref)
    if as_json:
        out_json({"found": found, "precision": reviewed})
    else:
        out(reviewing.report_text(found, reviewed))


@decontaminate.command("self-test")
def self_test(
    data: Input, against: Against = [], method: Methods = ["exact", "any-ngram", "ngram-coverage", "idf-overlap"],
    set_: Fields = [],
    items: Annotated[int, typer.Option("--items", min=1, help="Items of each benchmark that are planted.")] = 100,
    examples: Annotated[int, typer.Option("--examples", min=1, help="Examples of yours that host them.")] = 1000,
    llm: LLM = None, embed: Embed = None, judge: Judge = None, rng_seed: Seed = 0,
    store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Plant known leaks in your own data and report what each rule finds; exit code 1 if a whole item goes unnoticed."""
    from cli import reviewing
    from cli.progress import watching
    from storage.packs.shelf import load_pack
    from tasks.adhoc import adhoc_bench, taken_in
    from tasks.self_test import self_test as tested

    chosen = methods_of(method, set_)
    bench = adhoc_bench(store, engines_for(chosen, llm, embed, judge), rng_seed)
    with watching(quiet=as_json):
        ref = taken_in(data, bench)
        result = tested(ref, [load_pack(n) for n in names_of(against)], chosen, bench, items, examples)
    out_json({**result.model_dump(), "passed": result.passed}) if as_json else out(reviewing.self_test_text(result))
    if not result.passed:
        raise typer.Exit(1)


def names_of(against: list[str]) -> tuple[str, ...]:
    """The benchmarks that were named, or every pack that has a name here."""
    from storage.packs.shelf import known

    return tuple(against) or tuple(known())


def methods_of(names: list[str], fields: list[str]) -> list[Any]:
    """The methods; a field goes to those that have it. ``UsageError`` where none has."""
    from cli.building import method_of
    from schemas.errors import UsageError

    plain = [method_of("decontaminate", name, []) for name in names]
    taken = [[f for f in fields if f.split("=")[0].split(".")[0] in type(one).model_fields] for one in plain]
    for field in fields:
        if not any(field in some for some in taken):
            raise UsageError(
                f"--set {field[:60]}: none of {', '.join(names)} has such a field; see `provender methods`"
            )
    return [method_of("decontaminate", name, some) for name, some in zip(names, taken, strict=True)]


def engines_for(methods: list[Any], llm: str | None, embed: str | None, judge: str | None) -> Any:
    """The engines named, with the shipped static embeddings where one is needed and none given."""
    from cli import engine_named

    needs = {need for one in methods for need in one.needs}
    return engine_named.engines_for(
        methods, llm=llm, judge=judge, embed=embed or ("{backend: static}" if "embed" in needs else None)
    )


def reviewer_name() -> str:
    """Who sits here, as far as the machine knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
