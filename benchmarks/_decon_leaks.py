"""What the decontamination rules find: planted leaks, perturbed and rephrased benchmark items, and innocent rows."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from backends.embed.sentence_transformers import SentenceTransformers
from backends.embed.static import Static
from backends.llm.transformers import Transformers
from methods.decontaminate._rephrase import rulings
from methods.decontaminate.any_ngram import AnyNgram
from methods.decontaminate.exact import Exact
from methods.decontaminate.idf_overlap import IdfOverlap
from methods.decontaminate.llm_judge import LlmJudge
from methods.decontaminate.ngram_coverage import NgramCoverage
from methods.leaks import KINDS, recall_per_kind
from methods.matching import PairMethod
from schemas.errors import BackendError
from schemas.examples import EXAMPLES, conform, turns
from schemas.method import Using
from storage.packs import load_pack, packs

WORD_RULES: tuple[PairMethod, ...] = (Exact(), AnyNgram(), NgramCoverage(), IdfOverlap())


def pool_of(texts: list[str], answers: list[str] | None = None) -> pl.DataFrame:
    """EXAMPLES of one question each, with its answer or a neutral one."""
    ids = pl.Series("id", [i.to_bytes(16, "little") for i in range(len(texts))], dtype=pl.Binary)
    replies = answers or ["I will think about it."] * len(texts)
    said = [turns(("user", text), ("assistant", reply)) for text, reply in zip(texts, replies, strict=True)]
    frame = pl.DataFrame({"id": ids, "content_hash": ids, "source": ["bench"] * len(texts), "messages": said})
    return conform(
        frame.with_columns(*(pl.lit(None).alias(n) for n in EXAMPLES if n not in frame.columns)), EXAMPLES, "rows"
    )


def flagged(
    method: PairMethod,
    texts: list[str],
    benchmarks: Mapping[str, pl.DataFrame],
    using: Using,
    answers: list[str] | None = None,
) -> np.ndarray:
    """Which texts a method drops, bool."""
    said = method.judge(pool_of(texts, answers), benchmarks, using=using, rng=np.random.default_rng(0))
    return (said["fate"] == "reject").to_numpy()


def leaks(data: Path | None, *, quick: bool) -> None:
    """Planted leaks of every kind, then real perturbations and innocent rows where the local data has them."""
    benchmarks = {name: load_pack(name).items for name in packs()}
    using, rng = Using(), np.random.default_rng(0)
    each = 20 if quick else 200
    found = {
        m.name: {r.kind: r for r in recall_per_kind(m, benchmarks, using=using, rng=rng, max_items=each)}
        for m in WORD_RULES
    }
    print(f"planted leaks, up to {each} items of each of {len(benchmarks)} packs: found / planted")
    print(f"{'kind':20}{''.join(f'{m.name:>18}' for m in WORD_RULES)}")
    for kind in KINDS:
        cells = [f"{found[m.name][kind].caught}/{found[m.name][kind].planted}" for m in WORD_RULES]
        print(f"{kind:20}{''.join(f'{cell:>18}' for cell in cells)}")
    if data is None:
        print("real contamination: give --data FOLDER (or PROVENDER_DATA)")
        return
    recode = pl.read_parquet(data / "contamination" / "recode_humaneval_perturbed.parquet")
    print("real: HumanEval perturbed (ReCode), share of rows found by rule against the pack humaneval")
    humaneval = {"humaneval": benchmarks["humaneval"]}
    for (family,), group in sorted(recode.group_by("family"), key=lambda pair: str(pair[0])):
        shares = [flagged(m, group["text"].to_list(), humaneval, using).mean() for m in WORD_RULES]
        print(f"{family!s:20}{''.join(f'{share:18.3f}' for share in shares)}  of {group.height}")
    train = pl.read_parquet(data / "benchmarks" / "gsm8k.parquet").filter(split="train")
    alpaca = pl.read_parquet(data / "instructions" / "alpaca_52k.parquet").head(5000 if quick else 60_000).fill_null("")
    asked = alpaca.select(pl.concat_str("instruction", "input", separator="\n").alias("t"))["t"]
    for name, texts, answers, against in (
        ("GSM8K train against its test set", train["question"], train["answer"], {"gsm8k": benchmarks["gsm8k"]}),
        ("Alpaca against all packs", asked, alpaca["output"], benchmarks),
    ):
        counts = [int(flagged(m, texts.to_list(), against, using, answers.to_list()).sum()) for m in WORD_RULES]
        told = ", ".join(f"{m.name} {c}" for m, c in zip(WORD_RULES, counts, strict=True))
        print(f"named: {name}, {len(texts):,} rows: {told}")


def rephrased(data: Path | None, *, quick: bool) -> None:
    """Rank of the true rephrasing among all rows, embedding as a decision, and the embedded model as a judge."""
    if data is None:
        print("rephrased leaks: give --data FOLDER (or PROVENDER_DATA)")
        return
    sets = rephrasings(data)
    train = pl.read_parquet(data / "benchmarks" / "gsm8k.parquet").filter(split="train")["question"].to_list()
    engines: dict[str, Any] = {"static": Static().open()}
    try:
        engines["MiniLM"] = SentenceTransformers().open() if not quick else None
    except BackendError as error:
        print(f"MiniLM is not here: {error}")
    print("rephrasings: rank of the item's own among all rephrasings of the set and 7,473 GSM8K training questions")
    for engine_name, engine in engines.items():
        if engine is None:
            continue
        away = engine.embed(train)
        for name, (items, texts) in sets.items():
            ours, theirs = engine.embed(items), engine.embed(texts)
            own = np.einsum("ij,ij->i", ours, theirs)
            others = np.concatenate([ours @ theirs.T, ours @ away.T], axis=1)
            rank = 1 + (others > own[:, None] + 1e-6).sum(axis=1)
            innocent = (ours @ away.T).max(axis=0)
            at_one = float((own > np.quantile(innocent, 0.99)).mean())
            print(
                f"{engine_name:8}{name:24}{len(items):5} items: rank 1 {np.mean(rank == 1):.3f}, rank <= 5 "
                f"{np.mean(rank <= 5):.3f}; recall at 1 % false flags {at_one:.3f}; "
                f"at cosine .95 {np.mean(own >= 0.95):.3f} ({np.mean(innocent >= 0.95):.4f} false)"
            )
    recorded(data, engines["static"])
    judged(sets["GSM8K"], train, engines["static"], 10 if quick else 40)


def rephrasings(data: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Per set the items' own texts and their rephrasings, aligned."""
    folder = data / "contamination"
    gsm8k = pl.read_parquet(folder / "gsm8k_variants.parquet").filter(variant="llm_rephrase")
    items = load_pack("humaneval").items.with_columns(
        pl.col("item").str.extract(r"(\d+)").cast(pl.Int64).alias("task_no")
    )
    code = pl.read_parquet(folder / "humaneval_variants.parquet").join(items, on="task_no")
    found = {"GSM8K": (gsm8k["original"].to_list(), gsm8k["text"].to_list())}
    for variant in ("llm_rephrase_python", "translated_javascript"):
        rows = code.filter(variant=variant)
        found[f"HumanEval {variant.split('_')[-1]}"] = (rows["prompt"].to_list(), rows["text"].to_list())
    for subject in ("sociology", "abstract_algebra"):
        rows = pl.read_parquet(folder / f"mmlu_{subject}_rephrased.parquet").filter(
            pl.col("rephrase_english").is_not_null()
        )
        found[f"MMLU {subject}"] = (rows["question"].to_list(), rows["rephrase_english"].to_list())
    return found


def recorded(data: Path, engine: Any) -> None:
    """Real pairs of CodeAlpaca and HumanEval with GPT-4's recorded verdicts: what cosines and words say of them."""
    pairs = pl.read_parquet(data / "contamination" / "codealpaca_humaneval_gpt4_detections.parquet")
    truth = pairs["judged_contaminated"].to_numpy()
    cosine = np.einsum("ij,ij->i", engine.embed(pairs["test"].to_list()), engine.embed(pairs["train_top1"].to_list()))
    above = (cosine[truth][:, None] > cosine[~truth][None, :]).mean()
    caught = []
    for method in WORD_RULES:
        named = [
            bool(flagged(method, [text], {"x": one_item(test)}, Using())[0])
            for test, text in pairs.filter(pl.col("judged_contaminated")).select("test", "train_top1").iter_rows()
        ]
        caught.append(f"{method.name} {sum(named)}")
    print(
        f"CodeAlpaca rows nearest to HumanEval tasks, {int(truth.sum())} of {len(truth)} contaminated by GPT-4's recorded "
        f"verdict: AUC of the static cosine {above:.2f}; found by {', '.join(caught)}"
    )


def one_item(text: str) -> pl.DataFrame:
    """A benchmark of one item."""
    return pl.DataFrame({"item": ["0"], "prompt": [text], "answer": [None]}, schema_overrides={"answer": pl.String})


def judged(pairs: tuple[list[str], list[str]], innocent: list[str], engine: Any, count: int) -> None:
    """The embedded model as judge, on rephrasings and on the nearest innocent question of as many items."""
    items, texts = pairs[0][:count], pairs[1][:count]
    nearest = (engine.embed(items) @ engine.embed(innocent).T).argmax(axis=1)
    asked = [*zip(items, texts, strict=True), *zip(items, [innocent[i] for i in nearest], strict=True)]
    method, start = LlmJudge(), time.perf_counter()
    said = rulings(Transformers(model="sprout").open(), asked, method.prompt("same-problem"), method.draw, 4000)
    for name, part in (("rephrased", said[:count]), ("nearest innocent", said[count:])):
        verdicts = pl.Series([one.verdict for one in part]).value_counts(sort=True)
        told = ", ".join(f"{verdict} {n}" for verdict, n in verdicts.iter_rows())
        print(f"judge sprout, {count} GSM8K pairs, {name}: {told}")
    print(f"  ({time.perf_counter() - start:.0f} s for {4 * count} calls)")
