"""What the decontamination rules find: planted leaks, perturbed and rephrased benchmark items, and innocent rows."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from backends.embed.sentence_transformers import SentenceTransformers
from backends.embed.static import Static
from backends.llm.transformers import Transformers
from benchmarks._kept import Kept
from methods.decontaminate._candidates import cosine_blocks
from methods.decontaminate._rephrase import rulings
from methods.decontaminate._tf_idf import TfIdf as Weighted
from methods.decontaminate.any_ngram import AnyNgram
from methods.decontaminate.exact import Exact
from methods.decontaminate.idf_overlap import IdfOverlap
from methods.decontaminate.llm_judge import LlmJudge
from methods.decontaminate.ngram_coverage import NgramCoverage
from methods.decontaminate.tf_idf import TfIdf
from methods.measuring.leaks import KINDS, recall_per_kind
from methods.texts.matching import PairMethod
from schemas.errors import BackendError
from schemas.examples import EXAMPLES, conform, turns
from schemas.method import Using
from storage.packs.shelf import load_pack, packs

WORD_RULES: tuple[PairMethod, ...] = (Exact(), AnyNgram(), NgramCoverage(), IdfOverlap(), TfIdf())


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


def leaks(data: Path | None, kept: Kept, *, quick: bool) -> None:
    """Planted leaks of every kind, then real perturbations and innocent rows where the local data has them."""
    benchmarks = {name: load_pack(name).items for name in packs()}
    kept.part(f"planted {quick}", lambda: planted(benchmarks, 20 if quick else 200))
    if data is None:
        print("real contamination: give --data FOLDER (or PROVENDER_DATA)")
        return
    kept.part("recode", lambda: perturbed(data, {"humaneval": benchmarks["humaneval"]}))
    for rule in WORD_RULES:
        kept.part(f"innocent {rule.name} {quick}", lambda rule=rule: innocent(data, benchmarks, rule, quick=quick))


def planted(benchmarks: Mapping[str, pl.DataFrame], each: int) -> None:
    """What each rule finds of each kind of leak."""
    using, rng = Using(), np.random.default_rng(0)
    found = {
        m.name: {r.kind: r for r in recall_per_kind(m, benchmarks, using=using, rng=rng, max_items=each)}
        for m in WORD_RULES
    }
    print(f"planted leaks, up to {each} items of each of {len(benchmarks)} packs: found / planted")
    print(f"{'kind':20}{''.join(f'{m.name:>18}' for m in WORD_RULES)}")
    for kind in KINDS:
        cells = [f"{found[m.name][kind].caught}/{found[m.name][kind].planted}" for m in WORD_RULES]
        print(f"{kind:20}{''.join(f'{cell:>18}' for cell in cells)}")


def perturbed(data: Path, humaneval: Mapping[str, pl.DataFrame]) -> None:
    """HumanEval as ReCode changed it."""
    recode = pl.read_parquet(data / "contamination" / "recode_humaneval_perturbed.parquet")
    print("real: HumanEval perturbed (ReCode), share of rows found by rule against the pack humaneval")
    print(f"{'family':20}{''.join(f'{m.name:>18}' for m in WORD_RULES)}")
    for (family,), group in sorted(recode.group_by("family"), key=lambda pair: str(pair[0])):
        shares = [flagged(m, group["text"].to_list(), humaneval, Using()).mean() for m in WORD_RULES]
        print(f"{family!s:20}{''.join(f'{share:18.3f}' for share in shares)}  of {group.height}")


def innocent(data: Path, benchmarks: Mapping[str, pl.DataFrame], rule: PairMethod, *, quick: bool) -> None:
    """How many rows of real training data a rule names."""
    train = pl.read_parquet(data / "benchmarks" / "gsm8k.parquet").filter(split="train")
    alpaca = pl.read_parquet(data / "instructions" / "alpaca_52k.parquet").head(5000 if quick else 60_000).fill_null("")
    asked = alpaca.select(pl.concat_str("instruction", "input", separator="\n").alias("t"))["t"]
    for name, texts, answers, against in (
        ("GSM8K train against its test set", train["question"], train["answer"], {"gsm8k": benchmarks["gsm8k"]}),
        ("Alpaca against all packs", asked, alpaca["output"], benchmarks),
    ):
        count = int(flagged(rule, texts.to_list(), against, Using(), answers.to_list()).sum())
        print(f"named by {rule.name}: {name}, {len(texts):,} rows: {count}")


#: Cosines of rows (second) with items (first), shape (items, rows).
Measure = Callable[[list[str], list[str]], np.ndarray]


def rephrased(data: Path | None, kept: Kept, *, quick: bool) -> None:
    """Rank of the true rephrasing among all rows, closeness as a decision, and the embedded model as a judge."""
    if data is None:
        print("rephrased leaks: give --data FOLDER (or PROVENDER_DATA)")
        return
    sets = rephrasings(data)
    train = pl.read_parquet(data / "benchmarks" / "gsm8k.parquet").filter(split="train")["question"].to_list()
    static = Static().open()
    measures: dict[str, Measure] = {"tf-idf": by_words, "static": by(static)}
    try:
        if not quick:
            measures["MiniLM"] = by(SentenceTransformers().open())
    except BackendError as error:
        print(f"MiniLM is not here: {error}")
    print("rephrasings: rank of the item's own among all rephrasings of the set and 7,473 GSM8K training questions")
    for name, (items, texts) in sets.items():
        for measure, near in measures.items():
            kept.part(
                f"{measure} {name}",
                lambda *a, n=name, m=measure, i=items, t=texts, f=near: ranks(n, {m: f}, i, t, train),
            )
        pair = {"tf-idf": by_words, "static": measures["static"]}
        kept.part(f"both {name}", lambda *a, n=name, i=items, t=texts, p=pair: ranks(n, p, i, t, train))
    kept.part("recorded", lambda: recorded(data, static))
    count = 10 if quick else 40
    kept.part(f"judge {count}", lambda: judged(sets["GSM8K"], train, static, count))


def by(engine: Any) -> Measure:
    """Cosines of embeddings; equal lists of texts are embedded once."""
    remembered: dict[int, np.ndarray] = {}

    def vectors(texts: list[str]) -> np.ndarray:
        key = hash(tuple(texts))
        if key not in remembered:
            remembered[key] = engine.embed(texts)
        return remembered[key]

    def near(items: list[str], rows: list[str]) -> np.ndarray:
        blocks = cosine_blocks(vectors(rows), vectors(items))
        return np.concatenate([block for _, block in blocks]).T

    return near


def by_words(items: list[str], rows: list[str]) -> np.ndarray:
    """Cosines of TF-IDF vectors, weighted by all items of all packs, as `tf-idf` would be."""
    others = pl.concat([load_pack(name).items["prompt"] for name in packs()])
    index = Weighted(pl.concat([pl.Series("prompt", items), others.filter(~others.is_in(items))]))
    return np.concatenate([block[:, : len(items)] for _, block in index.blocks(pl.Series(rows))]).T


def ranks(name: str, measures: Mapping[str, Measure], items: list[str], texts: list[str], train: list[str]) -> None:
    """One line: how high the item's own rephrasing stands by the best of the measures."""
    best = np.full(len(items), np.inf)
    for near in measures.values():
        theirs, away = near(items, texts), near(items, train)
        own = np.diagonal(theirs).copy()
        best = np.minimum(best, 1 + (np.concatenate([theirs, away], axis=1) > own[:, None] + 1e-6).sum(axis=1))
    told = f"{' + '.join(measures):16}{name:24}{len(items):5} items: rank 1 {np.mean(best == 1):.3f}, "
    told += f"rank <= 5 {np.mean(best <= 5):.3f}"
    if len(measures) == 1:
        innocent = away.max(axis=0)
        at_one = float((own > np.quantile(innocent, 0.99)).mean())
        limit = 0.9
        told += f"; recall at 1 % false flags {at_one:.3f}; at cosine {limit} {np.mean(own >= limit):.3f} "
        told += f"({np.mean(innocent >= limit):.4f} false)"
    print(told, flush=True)


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
