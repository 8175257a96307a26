"""How far may a judge be trusted? Rates against human labels, agreement beyond chance, and the share it should have said."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backends.protocols import Reply
from methods.stats import wilson

#: Words by which a model's name tells its family, and other names of its maker's models.
_FAMILIES = (
    "gpt", "claude", "gemini", "gemma", "llama", "mistral", "qwen", "deepseek", "phi", "olmo", "command", "falcon",
    "pythia", "bloom", "yi", "granite", "nemotron", "glm", "kimi", "grok", "starcoder", "sprout",
)  # fmt: skip
_ALSO = {
    "chatgpt": "gpt", "davinci": "gpt", "codellama": "llama", "mixtral": "mistral", "ministral": "mistral",
    "codestral": "mistral", "magistral": "mistral", "codeqwen": "qwen", "qwq": "qwen", "chatglm": "glm",
}  # fmt: skip


def family_of(model: str) -> str:
    """The family of a model by its name; empty where it tells none.

    >>> family_of("openai/GPT-4o-mini"), family_of("meta-llama/Llama-3.1-8B"), family_of("Mixtral-8x7B"), family_of("mine")
    ('gpt', 'llama', 'mistral', '')
    """
    parts = {_ALSO.get(part, part) for part in re.split(r"[^a-z]+", model.lower())}
    return next((family for family in _FAMILIES if family in parts), "")


def same_family(judge: str, writer: str) -> bool | None:
    """Whether judge and writer are of one family by their names (a judge prefers its own); None where a name tells none.

    Two that bear one name are one model, whatever family that is.

    Paper: Panickssery et al. 2024, LLM evaluators recognize and favor their own generations,
    https://arxiv.org/abs/2404.13076

    >>> same_family("openai/gpt-4o", "gpt-4o-mini"), same_family("gpt-4o", "Qwen2.5"), same_family("gpt-4o", "my-model")
    (True, False, None)
    >>> same_family("my-model", "My-Model@r1")
    True
    """
    if judge and _bare(judge) == _bare(writer):
        return True
    ours, theirs = family_of(judge), family_of(writer)
    return ours == theirs if ours and theirs else None


def own_family(judge: str, writers: Iterable[str]) -> dict[str, str]:
    """For each writer whether the judge is of its family: ``yes``, ``no``, or ``unknown`` where a name tells none.

    >>> own_family("gpt-4o", ["GPT-4", "Qwen2.5", "my-model"])
    {'GPT-4': 'yes', 'Qwen2.5': 'no', 'my-model': 'unknown'}
    """
    said = {True: "yes", False: "no", None: "unknown"}
    return {writer: said[same_family(judge, writer)] for writer in writers}


def judge_called(identity: Mapping[str, Any], replies: Iterable[Reply]) -> str:
    """What a judge is called: by its identity, else (a local folder, which counts by its bytes) by its replies.

    >>> judge_called({"weights": "ab12"}, [Reply(text="B", model="sprout")]), judge_called({"weights": "ab12"}, [])
    ('sprout', 'ab12')
    """
    named = next((reply.model for reply in replies if reply.model), "")
    return str(identity.get("model") or named or identity.get("weights") or "")


def calibration(truth: Sequence[bool | None], said: Sequence[bool | None]) -> dict[str, Any]:
    """Rates over the rows that have both: ``true positive rate`` and ``true negative rate`` with 95 % intervals,
    ``kappa``, and the share of good rows corrected for the judge's errors (``rogan_gladen``), over all that it judged.

    ``labelled`` says over how many; rates are left out where there is nothing to count.
    """
    both = [(t, s) for t, s in zip(truth, said, strict=True) if t is not None and s is not None]
    table: dict[str, Any] = {"labelled": len(both)}
    good, bad = [s for t, s in both if t], [s for t, s in both if not t]
    for name, rows, hit in (("true positive rate", good, True), ("true negative rate", bad, False)):
        if rows:
            interval = wilson(sum(s is hit for s in rows), len(rows))
            table[name] = {k: round(v, 4) for k, v in vars(interval).items()}
    if both:
        table["kappa"] = kappa(both)
    judged = [s for s in said if s is not None]
    if good and bad and judged:
        tpr, tnr = sum(good) / len(good), sum(not s for s in bad) / len(bad)
        table["share it calls good"] = round(sum(judged) / len(judged), 4)
        table["share corrected"] = rogan_gladen(sum(judged) / len(judged), tpr, tnr)
    return table


def rogan_gladen(share: float, tpr: float, tnr: float) -> float | None:
    """The true share behind an observed one, in 0-1; None for a judge that is no better than chance.

    Paper: Rogan & Gladen 1978, https://doi.org/10.1093/oxfordjournals.aje.a112510

    >>> rogan_gladen(0.5, 0.9, 0.8), rogan_gladen(0.1, 0.9, 0.8), rogan_gladen(0.5, 0.5, 0.5)
    (0.4286, 0.0, None)
    """
    if tpr + tnr <= 1:
        return None
    return round(min(1.0, max(0.0, (share + tnr - 1) / (tpr + tnr - 1))), 4)


def kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Cohen's kappa of two raters; None where chance alone agrees always.

    >>> kappa([(True, True), (False, False), (True, False), (False, False)])
    0.5
    """
    n = len(pairs)
    first, second = sum(a for a, _ in pairs) / n, sum(b for _, b in pairs) / n
    agreed = sum(a == b for a, b in pairs) / n
    chance = first * second + (1 - first) * (1 - second)
    return None if chance == 1 else round((agreed - chance) / (1 - chance), 4)


def _bare(model: str) -> str:
    """A model's own name, without whose it is and which revision."""
    return model.rpartition("/")[2].partition("@")[0].lower()
