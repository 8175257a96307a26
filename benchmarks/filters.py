"""How well do the filters without a model find what they look for? Against labels that people made.

Personal data: Microsoft Presidio's synthetic sentences, recall per kind and spans that are none. Refusals: XSTest's human
labels of model answers. Language: the identifier on seven languages' sentences of the shared data, if they are there.

    python -m benchmarks filters --data FOLDER        (or PROVENDER_DATA; the folder with pii/, safety/, …)
"""

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

import polars as pl

from methods.personal import found_in
from methods.refusals import refusal_phrase
from methods.stats import wilson

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
    files = {name: folder / name for name in ("pii/presidio_synth.parquet", "safety/xstest_refusal_labels.parquet")}
    missing = [str(path) for path in files.values() if not path.is_file()]
    if missing:
        print(f"not there: {', '.join(missing)}; name the folder of the labelled data with --data")
        return 2
    personal(pl.read_parquet(files["pii/presidio_synth.parquet"]))
    refusals(pl.read_parquet(files["safety/xstest_refusal_labels.parquet"]))
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


if __name__ == "__main__":
    sys.exit(main())
