"""How good is sprout on what it never saw: loss per shape, and its judgements against chance, with 95 % intervals.

Everything is rendered from held-out items alone, except that the classification question is asked with labelled
demonstrations from the training side, as a user asks it with tasks they have labelled.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backends.train.pretrain import PretrainConfig
from backends.train.sprout_data import SHAPES, Document, Shapes, encode
from backends.train.sprout_items import Corpora, item_key, read_corpora
from backends.train.sprout_judgements import COMPARE_REASONS, REFLECT_REPLIES, compare_reply, reflect_reply
from backends.train.sprout_overlap import benchmark_overlap
from backends.train.sprout_scoring import Scorer
from backends.train.sprout_tokenizer import END_OF_TEXT, END_OF_TURN, START_OF_TURN
from methods.asking.prompts import TASKS_HEADER, classification_question, one_line, task_series

EVALUATION_RNG_SEED = 7
RESAMPLES = 1000
REFLECT_FORM = re.compile(r"explanation:\s*(.+?),?\s*answer:\s*([ABC])\b", re.DOTALL)
COMPARE_FORM = re.compile(r"reason:\s*(.+?),?\s*verdict:\s*(A|B|tie)\b", re.DOTALL)
SAMPLE_TASKS = (
    "Write a short poem about the sea.",
    "Name three kinds of fruit.",
    "Sort the numbers in ascending order.",
)


def evaluate_sprout(model_dir: Path, data_dir: Path, *, documents: int = 300, threads: int = 1) -> dict[str, Any]:
    """Measure the model on the held-out items of the files it was trained by, and write ``model_dir/eval.json``.

    ``documents`` are drawn per shape, and twice as many judgements; the config is read from ``training.json``.
    """
    training = json.loads((model_dir / "training.json").read_text("utf-8"))
    config = PretrainConfig.model_validate(training["config"])
    corpora = read_corpora(data_dir, [(f.path, f.sha256, f.held_out_fraction) for f in config.files])
    scorer = Scorer(model_dir, threads=threads)
    found = measure(scorer, corpora, config, documents=documents)
    found["benchmark_overlap"] = benchmark_overlap(corpora.train, data_dir)
    (model_dir / "eval.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return found


def measure(scorer: Scorer, corpora: Corpora, config: PretrainConfig, *, documents: int) -> dict[str, Any]:
    """All figures as one JSON-able value; repeatable for the same model, data and ``documents``."""
    shapes = Shapes(corpora.held_out, config.source_weights, question_weight=0.0, judge_weight=1.0)
    losses = {}
    for at, shape in enumerate(SHAPES):
        drawn = _drawn(shapes, shape, documents, scorer, at)
        losses[shape] = _loss(scorer, drawn)
        if shape in ("answer", "text"):
            losses[shape]["by_source"] = {
                source: _loss(scorer, [d for d in drawn if d.planted == source])
                for source in sorted({d.planted for d in drawn})
            }
    return {
        "rng_seed": EVALUATION_RNG_SEED,
        "documents_per_shape": documents,
        "held_out_loss": losses,
        "classification": _classification(scorer, corpora, config),
        "reflect": _reflect(scorer, _drawn(shapes, "reflect", 2 * documents, scorer, 101)),
        "compare": _compare(scorer, _drawn(shapes, "compare", 2 * documents, scorer, 102)),
        "replies_in_form": _forms(scorer, shapes),
        "new_tasks": _new_tasks(scorer, shapes, corpora),
        "samples": _samples(scorer),
    }


def _drawn(shapes: Shapes, shape: Any, n: int, scorer: Scorer, stream: int) -> list[Document]:
    """``n`` documents that fit the context."""
    rng = np.random.default_rng([EVALUATION_RNG_SEED, stream])
    fitting: list[Document] = []
    backend = scorer.tokenizer.backend_tokenizer
    for _ in range(20 * n):
        if len(fitting) == n:
            break
        document = shapes.draw(shape, rng)
        if encode(backend, [document], context_tokens=10**6)[0][0][scorer.context_tokens :]:
            continue
        fitting.append(document)
    return fitting


def _loss(scorer: Scorer, documents: Sequence[Document]) -> dict[str, Any]:
    """Mean nats per written token, end token included; the interval resamples documents."""
    scored = scorer.score([(d.prompt, d.completion) for d in documents])
    nats = np.array([-s.sum_logprob for s in scored])
    tokens = np.array([s.n_tokens for s in scored])
    low, high = _interval(len(nats), lambda i: nats[i].sum() / tokens[i].sum())
    loss = float(nats.sum() / tokens.sum())
    return {
        "nats_per_token": round(loss, 4),
        "interval": [low, high],
        "perplexity": round(float(np.exp(loss)), 2),
        "documents": len(documents),
        "tokens": int(tokens.sum()),
    }


def _classification(scorer: Scorer, corpora: Corpora, config: PretrainConfig) -> dict[str, Any]:
    """Every labelled held-out task, asked with five random sets of four labelled training tasks; mean P(Yes) > 1/2."""
    held = Shapes(corpora.held_out, config.source_weights, question_weight=0.0, judge_weight=1.0).labelled
    shown = Shapes(corpora.train, config.source_weights, question_weight=0.0, judge_weight=1.0).labelled
    rng = np.random.default_rng([EVALUATION_RNG_SEED, 100])
    tasks = [*held[True], *held[False]]
    prompts = []
    for task in tasks:
        for _ in range(5):
            shots = [shown[yes][int(rng.integers(len(shown[yes])))] for yes in (True, False, True, False)]
            order = rng.permutation(4)
            lines = [(one_line(shots[i].instruction)[:300], bool(shots[i].is_classification)) for i in order]
            prompts.append(classification_question(one_line(task.instruction)[:600], lines))
    chances = scorer.choose(prompts, [f" Yes{END_OF_TEXT}", f" No{END_OF_TEXT}"])
    yes = chances[:, 0].reshape(len(tasks), 5).mean(axis=1)
    truth = np.array([bool(task.is_classification) for task in tasks])
    right = (yes > 0.5) == truth
    low, high = wilson(int(right.sum()), len(tasks))
    return {
        "tasks": len(tasks),
        "classify": int(truth.sum()),
        "accuracy": _round(right.mean()),
        "interval": [low, high],
        "always_no": _round(1 - truth.mean()),
        "recall_yes": _round(right[truth].mean()),
        "recall_no": _round(right[~truth].mean()),
        "auroc_p_yes": _area(yes, truth, [task.instruction for task in tasks]),
        "by_source": {
            source: {"tasks": int(at.sum()), "accuracy": _round(right[at].mean())}
            for source in sorted({task.source for task in tasks})
            if (at := np.array([task.source == source for task in tasks])).any()
        },
    }


def _reflect(scorer: Scorer, documents: Sequence[Document]) -> dict[str, Any]:
    """P(A), P(B), P(C): summed over the templates of each letter. The area is that of P(A), right against wrong."""
    options = [(letter, k) for letter in REFLECT_REPLIES for k in range(len(REFLECT_REPLIES[letter]))]
    chances = scorer.choose([d.prompt for d in documents], [reflect_reply(*o) + END_OF_TURN for o in options])
    letters = sorted(REFLECT_REPLIES)
    by_letter = np.stack([chances[:, [o[0] == x for o in options]].sum(axis=1) for x in letters], axis=1)
    right = np.array([d.right for d in documents])
    about = [d.about for d in documents]
    judged = right != "C"
    chosen = np.array(letters)[by_letter.argmax(axis=1)]
    wrong_kinds = sorted({d.planted for d in documents if d.right == "B"})
    kinds = np.array([d.planted for d in documents])
    return {
        "judgements": len(documents),
        "auroc_p_a": _area(
            by_letter[judged, 0], right[judged] == "A", [a for a, j in zip(about, judged, strict=True) if j]
        ),
        "auroc_p_a_by_planted_error": {
            kind: _area(by_letter[at, 0], right[at] == "A", [a for a, j in zip(about, at, strict=True) if j])
            for kind in wrong_kinds
            if (at := (right == "A") | (kinds == kind)).any()
        },
        "letter_accuracy": _accuracy(chosen == right, about),
        "most_common_letter": _round(max((right == x).mean() for x in letters)),
        "blank_recognised": _accuracy(
            (chosen == "C")[~judged], [a for a, j in zip(about, judged, strict=True) if not j]
        ),
    }


def _compare(scorer: Scorer, documents: Sequence[Document]) -> dict[str, Any]:
    """Verdict of the larger of P(A) and P(B) where one answer is better; ties apart."""
    options = [(verdict, k) for verdict in COMPARE_REASONS for k in range(len(COMPARE_REASONS[verdict]))]
    chances = scorer.choose([d.prompt for d in documents], [compare_reply(*o) + END_OF_TURN for o in options])
    verdicts = sorted(COMPARE_REASONS)
    by_verdict = np.stack([chances[:, [o[0] == x for o in options]].sum(axis=1) for x in verdicts], axis=1)
    right = np.array([d.right for d in documents])
    kinds = np.array([d.planted for d in documents])
    about = [d.about for d in documents]
    differ = right != "tie"
    says_a = by_verdict[:, 0] > by_verdict[:, 1]
    hit = says_a == (right == "A")
    named = np.array(verdicts)[by_verdict.argmax(axis=1)]
    return {
        "judgements": len(documents),
        "accuracy": _accuracy(hit[differ], [a for a, j in zip(about, differ, strict=True) if j]),
        "chance": 0.5,
        "accuracy_by_worse_answer": {
            kind: _accuracy(hit[at], [a for a, j in zip(about, at, strict=True) if j])
            for kind in sorted(set(kinds[differ]))
            if (at := kinds == kind).any()
        },
        "says_a": _round(says_a[differ].mean()),
        "tie_recognised": _accuracy(
            (named == "tie")[~differ], [a for a, j in zip(about, differ, strict=True) if not j]
        ),
    }


def _forms(scorer: Scorer, shapes: Shapes, n: int = 40) -> dict[str, Any]:
    """Share of greedy replies that have the form which the methods parse."""
    found = {}
    for at, (shape, form) in enumerate((("reflect", REFLECT_FORM), ("compare", COMPARE_FORM))):
        drawn = _drawn(shapes, shape, n, scorer, 200 + at)
        hits = sum(bool(form.fullmatch(scorer.write(d.prompt, max_tokens=40).strip())) for d in drawn)
        found[shape] = {"replies": n, "in_form": hits, "interval": list(wilson(hits, n))}
    return found


def _new_tasks(scorer: Scorer, shapes: Shapes, corpora: Corpora, n: int = 24) -> dict[str, Any]:
    """Sampled task series: how many whole tasks are a training or shown instruction word for word, or a repeat."""
    rng = np.random.default_rng([EVALUATION_RNG_SEED, 300])
    trained = {item_key(one_line(task.instruction)) for task in corpora.train.tasks}
    pool = [task for tasks in shapes.listed.values() for task in tasks]
    known, repeated, whole = 0, 0, 0
    for at in range(n):
        shown = [one_line(pool[int(rng.integers(len(pool)))].instruction) for _ in range(4)]
        prompt = task_series(shown)
        budget = min(80, scorer.context_tokens - len(scorer.tokenizer(prompt)["input_ids"]))
        lines = scorer.write(prompt, max_tokens=budget, rng_seed=EVALUATION_RNG_SEED + at).strip().split("\n")[:-1]
        seen = {item_key(text) for text in shown}
        for line in lines:
            key = item_key(one_line(re.sub(r"^\d+\.\s*", "", line)))
            whole += 1
            known += key in trained
            repeated += key in seen
            seen.add(key)
    return {"series": n, "tasks": whole, "in_training": known, "shown_or_repeated": repeated}


def _samples(scorer: Scorer) -> list[dict[str, str]]:
    """Fixed prompts and a fixed seed, whatever comes out."""
    chat = f"{START_OF_TURN}user\n{{}}{END_OF_TURN}\n{START_OF_TURN}assistant\n"
    prompts = [
        task_series(SAMPLE_TASKS, TASKS_HEADER),
        chat.format("What is the plural of 'child'?"),
        chat.format("Write a short paragraph about why people keep gardens."),
    ]
    return [{"prompt": p, "reply": scorer.write(p, max_tokens=120, rng_seed=EVALUATION_RNG_SEED)} for p in prompts]


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share.

    >>> wilson(8, 10)
    (0.4902, 0.9433)
    """
    z, share = 1.959964, hits / n
    middle, spread = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, _round((middle - spread) / (1 + z * z / n))), _round((middle + spread) / (1 + z * z / n))


def auroc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Chance that a true one scores above a false one, ties counting half; nan where one kind is missing.

    >>> auroc(np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False]))
    0.875
    """
    low, high = np.sort(scores[~truth]), scores[truth]
    if not len(low) or not len(high):
        return float("nan")
    below, upto = np.searchsorted(low, high, "left"), np.searchsorted(low, high, "right")
    return float((below + upto).sum() / (2 * len(low) * len(high)))


def _area(scores: np.ndarray, truth: np.ndarray, about: Sequence[str]) -> dict[str, Any]:
    low, high = _interval(about, lambda i: auroc(scores[i], truth[i]))
    return {
        "auroc": _round(auroc(scores, truth)),
        "interval": [low, high],
        "right": int(truth.sum()),
        "wrong": int((~truth).sum()),
    }


def _accuracy(hit: np.ndarray, about: Sequence[str]) -> dict[str, Any]:
    if not len(hit):
        return {"accuracy": None, "interval": None, "judgements": 0}
    if hit.all() or not hit.any():  # resampling cannot vary; count each item once
        n = len(set(about))
        low, high = wilson(n if hit.all() else 0, n)
    else:
        low, high = _interval(about, lambda i: hit[i].mean())
    return {"accuracy": _round(hit.mean()), "interval": [low, high], "judgements": len(hit)}


def _interval(about: int | Sequence[str], figure: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """95 % bootstrap interval that resamples items, with all the judgements about an item together."""
    rng = np.random.default_rng([EVALUATION_RNG_SEED, 999])
    keys = np.arange(about) if isinstance(about, int) else np.unique(np.array(about), return_inverse=True)[1]
    members = [np.flatnonzero(keys == key) for key in range(int(keys.max()) + 1)]
    values = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(len(members), size=len(members))
        values.append(figure(np.concatenate([members[i] for i in drawn])))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return _round(low), _round(high)


def _round(value: Any) -> float:
    return round(float(value), 4)
