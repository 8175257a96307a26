"""The model card of sprout, written from ``training.json`` and ``eval.json``: no figure in it is typed by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backends.train.pretrain import PretrainConfig
from backends.train.sprout_judgements import COMPARE_REASONS, REFLECT_REPLIES, compare_reply, reflect_reply

FRONT_MATTER = """---
license: apache-2.0
language:
- en
library_name: transformers
pipeline_tag: text-generation
tags:
- from-scratch
- synthetic-data
- data-curation
---
"""

EXCLUDED = (
    (
        "noise/halueval_general",
        "the carrying repository is MIT, but 1,895 of its 2,305 questions stand word for word in Stanford Alpaca's "
        "data, which is CC BY-NC 4.0",
    ),
    (
        "preference/dpo_en_demo_300, kto_en_demo_300",
        "collections whose items keep licences of their own, share-alike ones among them",
    ),
    (
        "quality/dclm_human_quality, near_dup/plagiarised_articles_1000",
        "web and news texts whose own licences the carrying repositories do not state",
    ),
    ("every test split, HumanEval, MBPP, MMLU, TruthfulQA, BBH, IFEval, SVAMP", "benchmarks are not for training"),
    ("instructions/self_instruct_user_oriented_252", "an evaluation set"),
)


def write_card(model_dir: Path) -> Path:
    """``README.md`` beside the model; raises ``FileNotFoundError`` where training or evaluation left no figures."""
    training = json.loads((model_dir / "training.json").read_text("utf-8"))
    found = json.loads((model_dir / "eval.json").read_text("utf-8"))
    config = PretrainConfig.model_validate(training["config"])
    size = sum(p.stat().st_size for p in model_dir.iterdir() if p.is_file() and p.name != "README.md")
    parts = [
        FRONT_MATTER,
        _opening(training["report"], size),
        _use(),
        _figures(found),
        _samples(found["samples"]),
        _recipe(config, training),
        _sources(config),
        _overlap(found["benchmark_overlap"]),
        LIMITS,
    ]
    path = model_dir / "README.md"
    path.write_text("\n".join(parts), "utf-8")
    return path


def _opening(report: Mapping[str, Any], size_bytes: int) -> str:
    return f"""# sprout

A causal language model of {report["parameters"]:,} parameters, trained from random weights by Provender's own code
(`backends/train/pretrain.py`) on the prompt shapes of Provender's own stages. It lets the whole pipeline run on a laptop,
offline, with no key and no GPU: each stage gets a real model that answers in the form it parses. It is **not** a
model to make real training data with; a recipe changes one line to use one that is. All files together take
{size_bytes / 2**20:.1f} MiB.
"""


def _use() -> str:
    letters = "\n".join(
        f"| reflection, {letter} | `{reflect_reply(letter, k)}` |"
        for letter in REFLECT_REPLIES
        for k in range(len(REFLECT_REPLIES[letter]))
    )
    verdicts = "\n".join(
        f"| comparison, {verdict} | `{compare_reply(verdict, k)}` |"
        for verdict in COMPARE_REASONS
        for k in range(len(COMPARE_REASONS[verdict]))
    )
    return f"""## How to ask it

- Chat: the template in `chat_template.jinja` (`<|im_start|>role … <|im_end|>`); the assistant's text is marked with
  `{{% generation %}}` for TRL's `assistant_only_loss`. A turn ends with `<|im_end|>` (id 2).
- Continuation (task series, classification question, instances): the plain prompt of `methods/asking/prompts.py`, with or without a
  leading `<|endoftext|>`; a reply ends with `<|endoftext|>` (id 0). A fifth of the training asked them as a chat turn.
- The context is 512 tokens: show few demonstrations (up to 8 of the classification question, 3 of instances).
- Its judgements are best read as probabilities over the complete replies that it was taught, not by sampling. The sentence before
  the letter is a template, not reasoning:

| says | reply |
|---|---|
{letters}
{verdicts}
"""


def _figures(found: Mapping[str, Any]) -> str:
    losses = [
        f"| {shape} | {f['nats_per_token']:.3f} {_span(f['interval'], 3)} | {f['perplexity']:.2f} | {f['tokens']:,} |"
        for shape, f in found["held_out_loss"].items()
    ]
    sources = [
        f"| {shape}: {source} | {f['nats_per_token']:.3f} {_span(f['interval'], 3)} | {f['perplexity']:.2f} | {f['tokens']:,} |"
        for shape in ("answer", "text")
        for source, f in found["held_out_loss"][shape]["by_source"].items()
    ]
    return "\n".join(
        [
            "## Figures, all on held-out items",
            "",
            "Written by `backends.train.sprout_eval.evaluate_sprout` into `eval.json`; intervals are 95 % (bootstrap over "
            "items, Wilson for counts). Loss is per token of the completion, its end token included.",
            "",
            "| shape | loss, nats per token | perplexity | tokens |",
            "|---|---|---:|---:|",
            *losses,
            *sources,
            "",
            "Judging shapes are mostly template: their loss is low, right or wrong. These figures say which it is:",
            "",
            "| question | figure | chance | n |",
            "|---|---|---:|---:|",
            *_judgement_rows(found),
            "",
            _verdict_in_words(found),
            "",
        ]
    )


def _judgement_rows(found: Mapping[str, Any]) -> list[str]:
    c, r, v, forms = found["classification"], found["reflect"], found["compare"], found["replies_in_form"]
    rows = [
        f"| is this a classification task: accuracy | {c['accuracy']:.3f} {_span(c['interval'], 3)} "
        f"| {c['always_no']:.3f} (always no) | {c['tasks']} ({c['classify']} yes) |",
        f"| the same: AUROC of P(Yes) | {_figure(c['auroc_p_yes'], 'auroc')} | 0.5 | {c['tasks']} |",
        f"| the same: recall of yes / of no | {c['recall_yes']:.3f} / {c['recall_no']:.3f} | | |",
        f"| planted wrong answers: AUROC of P(A) | {_figure(r['auroc_p_a'], 'auroc')} | 0.5 "
        f"| {r['auroc_p_a']['right']} right, {r['auroc_p_a']['wrong']} wrong |",
    ]
    for kind, f in r["auroc_p_a_by_planted_error"].items():
        rows.append(f"| … where the wrong answer is {_said(kind)} | {_figure(f, 'auroc')} | 0.5 | {f['wrong']} wrong |")
    rows += [
        f"| reflection: letter right | {_figure(r['letter_accuracy'], 'accuracy')} | {r['most_common_letter']:.3f} "
        f"(most common) | {r['judgements']} |",
        f"| reflection: a blank answer is called (C) | {_figure(r['blank_recognised'], 'accuracy')} | | "
        f"{r['blank_recognised']['judgements']} |",
        f"| comparison: verdict right | {_figure(v['accuracy'], 'accuracy')} | 0.5 | {v['accuracy']['judgements']} |",
    ]
    for kind, f in v["accuracy_by_worse_answer"].items():
        rows.append(
            f"| … where the worse answer is {_said(kind)} | {_figure(f, 'accuracy')} | 0.5 | {f['judgements']} |"
        )
    rows += [
        f"| comparison: share of A among its verdicts | {v['says_a']:.3f} | 0.5 | |",
        f"| comparison: identical answers are called a tie | {_figure(v['tie_recognised'], 'accuracy')} | | "
        f"{v['tie_recognised']['judgements']} |",
    ]
    new = found["new_tasks"]
    rows += [
        f"| task series: sampled tasks that are a training instruction word for word | {new['in_training']} of "
        f"{new['tasks']} | | {new['series']} series |",
        f"| task series: sampled tasks that repeat the prompt or each other | {new['shown_or_repeated']} of "
        f"{new['tasks']} | | |",
    ]
    for shape, f in forms.items():
        rows.append(f"| {shape}: greedy reply has the form that is parsed | {f['in_form']} of {f['replies']} | | |")
    return rows


def _verdict_in_words(found: Mapping[str, Any]) -> str:
    """Which judgements are distinguishable from chance, by their intervals alone."""
    asked = {
        "reflection on planted wrong answers": (found["reflect"]["auroc_p_a"]["interval"], 0.5),
        **{
            f"reflection where the wrong answer is {_said(kind)}": (f["interval"], 0.5)
            for kind, f in found["reflect"]["auroc_p_a_by_planted_error"].items()
        },
        "comparison": (found["compare"]["accuracy"]["interval"], 0.5),
        **{
            f"comparison where the worse answer is {_said(kind)}": (f["interval"], 0.5)
            for kind, f in found["compare"]["accuracy_by_worse_answer"].items()
        },
        "the classification question (against always no)": (
            found["classification"]["interval"],
            found["classification"]["always_no"],
        ),
        "P(Yes) of the classification question": (found["classification"]["auroc_p_yes"]["interval"], 0.5),
    }
    better = [name for name, ((low, _), chance) in asked.items() if low > chance]
    worse = [name for name, ((_, high), chance) in asked.items() if high < chance]
    same = [name for name in asked if name not in better and name not in worse]
    said = [
        f"**Better than chance**: {', '.join(better) or 'nothing'}.",
        f"**Not distinguishable from chance here**: {', '.join(same) or 'nothing'}.",
    ]
    if worse:
        said.append(f"**Worse than chance**: {', '.join(worse)}.")
    return " ".join(said)


def _samples(samples: Sequence[Mapping[str, str]]) -> str:
    shown = [f"Prompt:\n\n{_fenced(sample['prompt'])}\n\nsprout:\n\n{_fenced(sample['reply'])}\n" for sample in samples]
    return "\n".join(
        [
            "## Three samples",
            "",
            "Fixed prompts, one fixed seed, the shipped settings, the first and only draw.",
            "",
            *shown,
        ]
    )


def _recipe(config: PretrainConfig, training: Mapping[str, Any]) -> str:
    report, setting = training["report"], training["setting"]
    hours = report["training_seconds"] / 3600
    return f"""## Training

- Llama architecture: {config.layers} layers, width {config.hidden_size}, {config.heads} heads, feed-forward {config.ffn_size},
  context {config.context_tokens}, tied embeddings, no dropout; byte-level BPE of {config.vocab_size} entries, digits apart,
  trained on the training side only.
- {report["steps"]:,} steps of about {report["tokens_seen"] // report["steps"]:,} tokens: **{report["tokens_seen"]:,} tokens seen**
  ({report["loss_tokens"]:,} of them with a loss weight), {report["epochs"]} epochs, each rendered afresh.
- fp32, fused AdamW (0.9, 0.95), weight decay {config.weight_decay}, peak rate {config.learning_rate:g}, {config.warmup_steps}
  steps of warm-up, a plateau, a cosine to {config.final_rate_fraction:g} of the peak over the last {config.decay_steps} steps
  (the plateau lets a run on a shared machine end when it must), gradients clipped at {config.clip_norm:g}. Rendering seed
  {config.rng_seed}.
- Loss weights: completion 1, judging reply {config.judge_weight:g}, the asked question {config.question_weight:g} (answers and task
  series), other prompts 0. One document per row, padded, so positions begin at 0 as they do in use.
- **{hours:.2f} hours** on {setting["threads"]} thread of a shared machine of {setting["cores"]} cores, no GPU
  (torch {setting["torch"]}, transformers {setting["transformers"]}, Python {setting["python"]}).

The exact recipe, with the digest of every file, is `recipes/sprout.yaml`. To train it again from the same files:

```
provender pretrain DATA --recipe recipes/sprout.yaml --to sprout
```

or `backends.train.pretrain.pretrain_from_recipe(recipe, data_dir, output_dir)`. The same recipe on the same versions and
machine type gives the same weights; a run that was killed goes on from its checkpoint to the same weights.

How often each shape was drawn: {_shares(config.shape_weights)}. Each source within a shape, where it has such items:
{_shares(config.source_weights)}.
"""


def _sources(config: PretrainConfig) -> str:
    rows = [f"| `{f.path}` | {f.origin} | {f.licence} | {f.held_out_fraction:g} |" for f in config.files]
    left_out = [f"- `{name}`: {why}." for name, why in EXCLUDED]
    return "\n".join(
        [
            "## Data and licence chain",
            "",
            "| file | taken from | licence | held out |",
            "|---|---|---|---:|",
            *rows,
            "",
            "All of it is permissive (Apache-2.0, MIT, ODC-BY, public domain): none is share-alike or non-commercial, so the "
            "weights are given under **Apache-2.0**. Attribution is this table. Some of the files were written in part by other "
            "companies' models (GPTeacher by GPT-4, for one); their publishers' licences are as stated, and "
            "the terms of those models' providers may concern you if you train a competing model.",
            "",
            "Left out on purpose:",
            "",
            *left_out,
            "",
            "**Held out**: an item is never trained on when the first 8 bytes of sha256(instruction 0x1F input), both lower-cased "
            "with whitespace collapsed, read as a fraction of 2^64, are below the file's share (`sprout_items.is_held_out`). Seed "
            "tasks and phrasings go by their instruction, running text by its chunk, instruction-induction instances by task "
            "name and input. So the same item is held out in every file; near duplicates of it may not be. "
            "`gpteacher_codegen`, `gsm8k` (training split) and `permissive_instructions_1100` also serve as data to curate in "
            "the examples: a loss measured there on items that are not held out is a training loss.",
            "",
        ]
    )


def _overlap(found: Mapping[str, Any]) -> str:
    rows = [
        f"| {name} | {f['items']:,} | {f['long_enough']:,} | {f['sharing']} | {_one_line(f['first'])} |"
        for name, f in found.items()
    ]
    return "\n".join(
        [
            "## Benchmarks in the training text",
            "",
            "Test items that share a run of 13 words (lower-cased, punctuation ignored) with any training text:",
            "",
            "| benchmark | items | of 13 words or more | sharing a run | the first one |",
            "|---|---:|---:|---:|---|",
            *rows,
            "",
        ]
    )


LIMITS = """## Limits

- It knows next to nothing: facts, sums and code in its answers are mostly wrong, replies need not fit the question, and longer ones
  drift. Many of the tasks it writes stand in its training text (counted above).
- It was trained for under an hour on few tokens, and its loss was still falling when the run ended: more steps are one field of the
  recipe.
- English only, 512 tokens, no safety training; it may repeat what stands in its data.
- Labels of the classification question come from people (seed tasks), from the number of distinct outputs (instruction induction)
  or from an instruction that begins with "Classify" and has short answers (the rest); the held-out set is small.
- The errors in the reflection and comparison figures were planted by us (another row's answer, shuffled or cut words, a changed
  digit). They are easier than the subtle errors of real data; do not read these figures as a hallucination detector's.
- Use it to see the pipeline work and to test it. Use a real model for data that you mean to train on.
"""


def _figure(f: Mapping[str, Any], name: str) -> str:
    return f"{f[name]:.3f} {_span(f['interval'], 3)}"


def _span(interval: Sequence[float], digits: int) -> str:
    return f"({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"


def _said(kind: str) -> str:
    return {
        "damaged": "damaged (words shuffled, cut, or a digit changed)",
        "of-another-row": "another row's of the same file",
        "of-another-source": "a row's of another file",
        "rejected": "the rude or plain one of a preference pair",
    }[kind]


def _shares(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {weight:g}" for name, weight in weights.items())


def _one_line(text: str) -> str:
    """Text of a data set inside a table cell: no markup, no line break, no cell border."""
    words = " ".join(text.split())[:100]
    return f"`{words.replace('`', '').replace('|', '/')} …`" if words else ""


def _fenced(text: str) -> str:
    """As a code block whose fence is longer than any run of backticks in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
