"""One verb per stage, for ad-hoc work on any file or stored dataset."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.building import build, method_of
from cli.console import DEFAULT_STORE, JsonOption, StoreOption, out, out_json, say
from cli.engine_named import backends_of, engines_for

Input = Annotated[str, typer.Argument(help="A tag, a ref, or a file or folder of examples.", show_default=False)]
Method = Annotated[str, typer.Option("--method", "-m", help="The method; `provender methods` lists them.")]
Fields = Annotated[list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A field of the method; repeatable.")]
Tag = Annotated[str | None, typer.Option("--tag", help="Name for the result.")]
LLM = Annotated[str | None, typer.Option("--llm", help="A model for `transformers`, a backend, a YAML file, or YAML.")]
Embed = Annotated[
    str | None, typer.Option("--embed", help="An embedding backend (`static`), a model, a YAML file, or YAML.")
]
Judge = Annotated[str | None, typer.Option("--judge", help="The same for methods that ask a judge; --llm if absent.")]
Tune = Annotated[
    str | None,
    typer.Option("--tune", help="A model for `torch` (`sprout`), a YAML file, or YAML; for methods that train."),
]
Target = Annotated[
    str | None, typer.Option("--target", help="What a method aims at: a tag, a ref, or a file of examples.")
]
Seed = Annotated[int, typer.Option("--rng-seed", help="Random seed.")]
Plainly = Annotated[bool, typer.Option("--without-prefect", help="As plain functions, without orchestration.")]


def ingest(
    path: Annotated[str, typer.Argument(help="File, folder or hub:owner/name@revision.")],
    name: Annotated[str | None, typer.Option(help="Source name; the file's name if absent.")] = None,
    set_: Fields = [],
    tag: Tag = None,
    store: StoreOption = DEFAULT_STORE,
    without_prefect: Plainly = True,
    as_json: JsonOption = False,
) -> None:
    """Bring a file, a folder or a hub dataset into the store; malformed rows are refused with their reason."""
    from flows.ingest import ingest_source
    from schemas.sources import SourceSpec

    source = build(SourceSpec, {"path": path}, set_, "source")
    finish(ingest_source, without_prefect, as_json, store, source=source, name=name, tag=tag)


def generate(
    seeds: Input, method: Method = "self-instruct", set_: Fields = [], tag: Tag = None, llm: LLM = "sprout",
    judge: Judge = None, embed: Embed = None, rng_seed: Seed = 0, store: StoreOption = DEFAULT_STORE,
    without_prefect: Plainly = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Let a teacher write new examples from seed examples."""
    from flows.generate import generate as flow

    by = method_of("generate", method, set_)
    engines = engines_for([by], llm=llm, judge=judge, embed=embed)
    finish(flow, without_prefect, as_json, store, seeds=seeds, by=by, tag=tag, backends=engines, rng_seed=rng_seed)


def filter_(
    pool: Input, method: Method = "heuristics", set_: Fields = [], tag: Tag = None, llm: LLM = None, judge: Judge = None,
    embed: Embed = None, tune: Tune = None, rng_seed: Seed = 0, store: StoreOption = DEFAULT_STORE,
    without_prefect: Plainly = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Judge each example alone; what is not kept stays in the store with its reason."""
    from flows.filter import filter as flow

    by = method_of("filter", method, set_)
    engines = engines_for([by], llm=llm, judge=judge, embed=embed, tune=tune)
    finish(flow, without_prefect, as_json, store, pool=pool, by=by, tag=tag, backends=engines, rng_seed=rng_seed)


def dedup(
    pool: Input, method: Method = "exact", set_: Fields = [], tag: Tag = None, embed: Embed = None,
    rng_seed: Seed = 0, store: StoreOption = DEFAULT_STORE, without_prefect: Plainly = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Drop examples that repeat another; each names the one that stays."""
    from flows.dedup import dedup as flow

    by = method_of("dedup", method, set_)
    finish(flow, without_prefect, as_json, store, pool=pool, by=by, tag=tag, backends=engines_for([by], embed=embed),
            rng_seed=rng_seed)  # fmt: skip


def rank(
    pool: Input, method: Method = "uniform", set_: Fields = [], target: Target = None, tag: Tag = None,
    llm: LLM = None, judge: Judge = None, embed: Embed = None, tune: Tune = None, rng_seed: Seed = 0,
    store: StoreOption = DEFAULT_STORE, without_prefect: Plainly = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Score a pool, higher is better; cut it with `select`."""
    from flows.select_examples import select as flow

    by = method_of("rank", method, set_)
    engines = engines_for([by], llm=llm, judge=judge, embed=embed, tune=tune)
    finish(flow, without_prefect, as_json, store, pool=pool, rank=by, cut=None, target=target, tag=tag,
            backends=engines, rng_seed=rng_seed)  # fmt: skip


def select(
    pool: Input,
    keep_examples: Annotated[int | None, typer.Option("--keep-examples", min=1, help="Budget in examples.")] = None,
    budget_tokens: Annotated[
        int | None, typer.Option("--budget-tokens", min=1, help="Budget in tokens, estimated, instead.")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="The ranking that is cut; uniform if absent.", show_default=False)
    ] = None,
    cut: Annotated[str, typer.Option("--cut", help="How: top, quota, …; k-center and others need no ranking.")] = "top",
    set_: Annotated[list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A field of the ranking; repeatable.")] = [],
    cut_set: Annotated[
        list[str], typer.Option("--cut-set", metavar="FIELD=VALUE", help="A field of --cut, as in max_similarity=0.8; repeatable.")
    ] = [],
    target: Target = None, tag: Tag = None, llm: LLM = None, judge: Judge = None, embed: Embed = None, tune: Tune = None,
    rng_seed: Seed = 0, store: StoreOption = DEFAULT_STORE, without_prefect: Plainly = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Rank a pool and keep what a method chooses within a budget; the ranking is reused by the next budget."""
    from flows.select_examples import select as flow
    from schemas.errors import UsageError

    budget = {"keep_examples": keep_examples, "budget_tokens": budget_tokens}
    given = [f"{name}={value}" for name, value in budget.items() if value is not None]
    how = method_of("select", cut, [*given, *cut_set])
    if not how.ranked and (by or set_):
        raise UsageError(f"--cut {cut} looks at the set and reads no ranking; leave out {'--by' if by else '--set'}")
    ranking = method_of("rank", by or "uniform", set_) if how.ranked else None
    engines = engines_for([m for m in (ranking, how) if m], llm=llm, judge=judge, embed=embed, tune=tune)
    finish(flow, without_prefect, as_json, store, pool=pool, rank=ranking, cut=how, target=target, tag=tag,
            backends=engines, rng_seed=rng_seed)  # fmt: skip


def mix(
    pool: Input, method: Method = "temperature", set_: Fields = [],
    target: Annotated[
        str | None, typer.Option("--target", help="What the mixture is to do well on: tag, ref or file; for methods that measure.")
    ] = None,
    tune: Annotated[
        str, typer.Option("--tune", help="A model for `torch`, a backend, a YAML file, or YAML; for methods that measure.")
    ] = "sprout",
    tag: Tag = None, rng_seed: Seed = 0,
    store: StoreOption = DEFAULT_STORE, without_prefect: Plainly = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Blend a pool's sources in the weights a method finds; proxy runs that were measured are not measured again."""
    from cli.mixing import mixture_text
    from flows.optimise_mixture import optimise_mixture as flow

    by = method_of("mix", method, set_)
    engines = engines_for([by], tune=tune if "tune" in by.needs else None)
    ref = finish(flow, without_prefect, as_json, store, pool=pool, by=by, target=target, tag=tag, backends=engines,
                 rng_seed=rng_seed)  # fmt: skip
    if not as_json:
        say(mixture_text(store, ref))


def publish(
    dataset: Input,
    name: Annotated[str, typer.Option("--name", help="The tag that will name it.")],
    against: Annotated[
        list[str], typer.Option("--against", help="Benchmarks that the gate declares; every pack that has a name here by default.")
    ] = [],
    rng_seed: Seed = 0, store: StoreOption = DEFAULT_STORE, without_prefect: Plainly = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Give a dataset its self-contained copy, its gate and its name, so that it can be trained on."""
    from flows.publish import publish as flow
    from schemas.recipe import Decontamination
    from storage.packs.shelf import known

    names = list(against) or list(known())
    gate = build(Decontamination, {"benchmarks": names, "by": {"method": "ngram-coverage"}}, [], "publish")
    finish(flow, without_prefect, as_json, store, dataset=dataset, name=name, gate=gate, rng_seed=rng_seed)


def finetune(
    dataset: Input,
    set_: Annotated[list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A field of the training backend.")] = [],
    backend: Annotated[str, typer.Option("--backend", help="trl, command or pretend.")] = "trl",
    override_gate: Annotated[str | None, typer.Option(help="A written reason to train although the gate is closed.")] = None,
    row_losses: Annotated[int, typer.Option(min=0, help="Measure so many rows' loss before and after; 0: none.")] = 1000,
    rng_seed: Seed = 0, store: StoreOption = DEFAULT_STORE, without_prefect: Plainly = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Train on exactly one published version; the gate stands before it."""
    from flows.finetune import finetune as flow
    from schemas.recipe import Finetuning

    how = build(
        Finetuning, {"by": {"backend": backend}, "override_gate": override_gate, "row_losses": row_losses},
        [f"by.{s}" for s in set_], "finetune",
    )  # fmt: skip
    ref = finish(flow, without_prefect, as_json, store, dataset=dataset, how=how, rng_seed=rng_seed)
    if not as_json:
        tell_training(store, ref)


def evaluate(
    model: Annotated[str, typer.Argument(help="Ref of a finetune step.")],
    target: Annotated[str | None, typer.Argument(help="Examples to measure on: tag, ref or file.")] = None,
    metric: Annotated[
        list[str], typer.Option(help="loss, exact-match, rouge-l, pass@k, pairwise; repeatable.")
    ] = ["loss"],
    harness: Annotated[
        list[str],
        typer.Option("--harness", metavar="TASK", help="Task of lm-evaluation-harness, or a task file; repeatable."),
    ] = [],
    judge: Annotated[str | None, typer.Option(help="Of pairwise: YAML of a backend, or a model for `transformers`.")] = None,
    set_: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A field of `evaluate:`, as in harness.limit=100.")
    ] = [],
    rng_seed: Seed = 0, store: StoreOption = DEFAULT_STORE, without_prefect: Plainly = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Held-out loss, task metrics, a judge's preference and benchmarks of a trained model, before and after."""
    from flows.evaluate import evaluate as flow
    from schemas.recipe import Evaluation

    start = {"target": target, "metrics": list(metric), "harness": {"tasks": list(harness)} if harness else None}
    how = build(Evaluation, start, set_, "evaluate")
    ref = finish(flow, without_prefect, as_json, store, model=model, how=how, backends=backends_of(judge=judge),
                 rng_seed=rng_seed)  # fmt: skip
    if not as_json:
        tell_training(store, ref)


def tell_training(store: Path, ref: str) -> None:
    """What a training or an evaluation came to, and where the weights lie."""
    from cli.render import training_text
    from schemas.lineage import DatasetRef
    from storage.questions.training import training_of
    from storage.store import Store

    made = training_of(Store.open(store).describe(DatasetRef.parse(ref)))
    say(training_text(made))
    if made.output:
        say(f"  in {made.output}, with its card; measure it with `provender evaluate {ref} TARGET`")


def export(
    dataset: Annotated[str, typer.Argument(help="A tag or a ref.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="messages, trl, sharegpt, alpaca, llama-factory, axolotl, original, csv, …; about the version: "
            "openlineage, croissant",
        ),
    ] = "messages",
    to: Annotated[
        str | None,
        typer.Option("--to", help="Folder to write into, ./export if absent; for openlineage also an http(s) address."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="CSV: do not guard cells that a spreadsheet takes for formulas.")
    ] = False,
    out_file: Annotated[Path | None, typer.Option("--out", help="openlineage, croissant: the file to write.")] = None,
    rows: Annotated[str, typer.Option("--rows", help="croissant: rows as parquet or messages (JSONL).")] = "parquet",
    url: Annotated[str | None, typer.Option("--url", help="croissant: the page where it will be published.")] = None,
    creator: Annotated[str | None, typer.Option("--creator", help="croissant: who publishes it.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Write a version in the shape a trainer expects; what a shape cannot express is written beside it with reasons."""
    from cli.store_read import looked_at
    from storage.export import ABOUT, export_report
    from storage.store import Store

    opened = Store.open(looked_at(store), create=False)
    ref = opened.resolve(dataset)
    name = dataset.split("@")[0].split("/")[-1]
    folder = Path(to or (out_file.parent if out_file else "export"))
    if format_ == "openlineage":
        export_openlineage(
            opened, ref, to, out_file or folder / f"{name}.openlineage.jsonl", out_file is not None, as_json
        )
        return
    refuse_place(to, out_file if format_ not in ABOUT else None, ABOUT)
    if format_ == "croissant":
        from storage.export.croissant import write_croissant

        done = write_croissant(opened, ref, folder, name=name, rows=rows, url=url, creator=creator, out=out_file)
    else:
        done = export_report(opened.batches(ref), format_, folder, name=name, raw=raw)
    if as_json:
        out_json({"files": [str(f) for f in done.paths], "rows": done.rows, "not_exported": dict(done.not_exported)})
        return
    for file in done.paths:
        out(str(file))
    for reason, count in done.not_exported.items():
        say(f"not exported: {count} {reason}")


def export_openlineage(store: Any, ref: Any, to: str | None, path: Path, keep: bool, as_json: bool) -> None:
    """Events of a version's lineage to an address, a file, or (``keep``: ``--out`` was given) both."""
    from storage.export.openlineage import openlineage_events, post_events, write_openlineage

    sent, files, count = 0, list[str](), 0
    posted = to is not None and "://" in to
    if keep or not posted:
        written, count = write_openlineage(store, ref, path)
        files.append(str(written))
    if posted:
        sent = count = post_events(openlineage_events(store, ref), str(to))
    if as_json:
        out_json({"files": files, "events": count, "sent": sent})
        return
    for file in files:
        out(file)
    say(f"{count} events" + (f", {sent} sent" if posted else ""))


def refuse_place(to: str | None, out_file: Path | None, formats: tuple[str, ...]) -> None:
    """``UsageError`` for an address or ``--out`` with a format that writes a folder of files."""
    from schemas.errors import UsageError

    if to is not None and "://" in to:
        raise UsageError("--to names an address, which only openlineage is sent to; name a folder")
    if out_file is not None:
        raise UsageError(f"--out names one file, which only {' and '.join(formats)} write; name a folder with --to")


def finish(
    flow: Callable[..., str], plainly: bool, as_json: bool, store: Path, *, told: bool = True, **parameters: Any
) -> str:
    """Run a flow (or its plain function) with progress, tell the result's ref unless not ``told``, and return it."""
    from cli.progress import watching
    from tasks.adhoc import must_be_there

    named = [parameters.get(one) for one in ("pool", "dataset", "seeds", "model", "target")]
    asked = [*named, getattr(parameters.get("how"), "target", None)]  # what `evaluate` measures on
    must_be_there([one for one in asked if one], store, parameters.get("tag") or parameters.get("name"))
    with watching(quiet=as_json):
        run: Any = getattr(flow, "fn") if plainly else flow  # noqa: B009  (a Prefect flow's plain function)
        ref = run(store=store, **parameters)
    if not told:
        return ref
    if as_json:
        from schemas.lineage import DatasetRef
        from storage.store import Store

        manifest = Store.open(store).describe(DatasetRef.parse(ref))
        out_json(
            {
                "ref": ref,
                "counts": manifest.counts,
                "reasons": dict(manifest.reasons),
                "summary": dict(manifest.summary),
            }
        )
    else:
        out(ref)
    return ref
