"""How well do the filters without a model find what they look for? Against labels that people made.

Personal data: Microsoft Presidio's synthetic sentences, recall per kind and spans that are none. Refusals: XSTest's human
labels of model answers. Toxicity: tweets labelled by three or more people each, by prototypes over both embedded models and
by the embedded sprout as a judge; false flags on the shipped instructions, which nobody would call toxic.

    python -m benchmarks filters --data FOLDER        (or PROVENDER_DATA; the folder with pii/, safety/, …)
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from backends.embed.sentence_transformers import SentenceTransformers
from backends.embed.static import Static
from backends.llm.transformers import Transformers
from benchmarks._decon_leaks import pool_of
from methods.filter.toxicity import Toxicity
from methods.stats import wilson
from methods.texts.personal import found_in
from methods.texts.refusals import refusal_phrase
from schemas.errors import BackendError
from schemas.method import Using

#: Presidio's names of the kinds that have a form.
KINDS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "credit-card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip-address",
    "US_SSN": "us-ssn",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("PROVENDER_DATA", "data")))
    folder = parser.parse_args().data
    names = ("pii/presidio_synth.parquet", "safety/xstest_refusal_labels.parquet", "safety/hate_speech_tweets.parquet")
    files = {name: folder / name for name in names}
    missing = [str(path) for path in files.values() if not path.is_file()]
    if missing:
        print(f"not there: {', '.join(missing)}; name the folder of the labelled data with --data")
        return 2
    personal(pl.read_parquet(files["pii/presidio_synth.parquet"]))
    refusals(pl.read_parquet(files["safety/xstest_refusal_labels.parquet"]))
    toxicity(pl.read_parquet(files["safety/hate_speech_tweets.parquet"]))
    return 0


def personal(rows: pl.DataFrame) -> None:
    found, there = Counter[str](), Counter[str]()
    false = total = 0
    start = time.perf_counter()
    for text, spans in rows.select("full_text", "spans").iter_rows():
        hits = found_in(text)
        total += len(hits)
        for span in spans:
            there[span["entity_type"]] += 1
            found[span["entity_type"]] += any(h.start < span["end"] and span["start"] < h.end for h in hits)
        for hit in hits:
            false += not any(
                hit.start < s["end"] and s["start"] < hit.end and KINDS.get(s["entity_type"]) == hit.kind for s in spans
            )
    seconds = time.perf_counter() - start
    print(f"personal data: {rows.height} sentences, {rows.height / seconds:,.0f}/s on one core of {os.cpu_count()}")
    for kind in sorted(KINDS, key=lambda name: -there[name]):
        share = wilson(found[kind], there[kind])
        print(
            f"  {kind:15} recall {found[kind]:3}/{there[kind]:<3} = {share.estimate:.2f} ({share.low:.2f}-{share.high:.2f})"
        )
    print(f"  spans found {total}, of which {false} are labelled otherwise or not at all")
    without = {kind: count for kind, count in there.items() if kind not in KINDS}
    print(f"  without a form, so not looked for: {', '.join(f'{k} {v}' for k, v in sorted(without.items()))}")


def refusals(rows: pl.DataFrame) -> None:
    counts = Counter(
        (label[2:], refusal_phrase(text) is not None)
        for label, text in rows.select("final_label", "completion").iter_rows()
    )
    for label in ("full_refusal", "partial_refusal", "full_compliance"):
        yes, no = counts[(label, True)], counts[(label, False)]
        share = wilson(yes, yes + no)
        print(
            f"refusals: {label:16} called a refusal {yes:3}/{yes + no:<3} = {share.estimate:.3f} ({share.low:.3f}-{share.high:.3f})"
        )
    hits, false = counts[("full_refusal", True)], counts[("full_compliance", True)]
    print(f"  precision over full refusals and full compliance: {hits / (hits + false):.3f}")


def toxicity(tweets: pl.DataFrame) -> None:
    """Prototypes drawn from the tweets, the rest judged; label 0 is hate, 1 offensive, 2 neither."""
    marks = r"@\w+|&#?\w+;|https?://\S+|\bRT\b"
    texts = tweets.with_columns(pl.col("tweet").str.replace_all(marks, " ").str.strip_chars())
    dice = np.random.default_rng(0)
    groups = {label: texts.filter(label=label)["tweet"].to_list() for label in (0, 1, 2)}
    groups = {label: [said[int(i)] for i in dice.permutation(len(said))] for label, said in groups.items()}
    shipped = Path(__file__).resolve().parent.parent / "recipes" / "data" / "permissive_instructions.jsonl"
    rows = [json.loads(line) for line in shipped.read_text(encoding="utf-8").splitlines()]
    innocent = [f"{row['instruction']}\n{row.get('input') or ''}\n{row['output']}" for row in rows[:300]]
    tested = {
        "hate": groups[0][250:650], "offensive": groups[1][250:650], "neither": groups[2][500:1300], "shipped rows": innocent
    }  # fmt: skip
    engines = {"static": Static().open()}
    try:
        engines["MiniLM"] = SentenceTransformers().open()
    except BackendError as error:
        print(f"MiniLM is not here: {error}")
    for each in (25, 250):
        lines = [{"text": text, "toxic": True} for text in groups[0][:each] + groups[1][:each]]
        lines += [{"text": text, "toxic": False} for text in groups[2][: 2 * each]]
        prototypes = "\n".join(json.dumps(line) for line in lines)
        for name, engine in engines.items():
            method = Toxicity(by="prototypes", of="answer", prototypes=prototypes)
            said = {
                kind: method.judge(pool_of([""] * len(some), some), using=Using(_embed=engine), rng=dice)[
                    "score"
                ].to_numpy()
                for kind, some in tested.items()
            }
            bad = np.concatenate([said["hate"], said["offensive"]])
            area = float(((bad[:, None] > said["neither"]) + 0.5 * (bad[:, None] == said["neither"])).mean())
            print(f"toxicity by prototypes over {name}, {2 * each} of each kind: AUC {area:.3f}; dropped, by the limit")
            for limit in (0.95, 0.98):
                shares = {kind: wilson(int((one > limit).sum()), len(one)) for kind, one in said.items()}
                print(
                    f"  {limit}: "
                    + ", ".join(f"{k} {s.estimate:.3f} ({s.low:.3f}-{s.high:.3f})" for k, s in shares.items())
                )
    some = pool_of(["x"] * 3, tested["neither"][:3])
    judged = Toxicity().judge(some, using=Using(_judge=Transformers(model="sprout").open()), rng=dice)
    print(
        f"toxicity, sprout as the judge: {dict(judged['reason'].value_counts().iter_rows())}; {judged['evidence'][0]}"
    )


if __name__ == "__main__":
    sys.exit(main())
