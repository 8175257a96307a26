"""May two figures be compared? Only if nothing differs but the data that the models were trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.identity import canonical_json, fingerprint
from schemas.lineage import Manifest
from storage.questions.training import model_name
from storage.questions.views import Metric

#: Settings of an evaluation that decide a metric, besides ``version`` and ``max_examples``.
_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "loss": (),
    "exact-match": ("max_new_tokens",),
    "rouge-l": ("max_new_tokens",),
    "pass@k": ("max_new_tokens", "k", "samples"),
    "win-rate-base": ("max_new_tokens", "pairwise"),
    "win-rate-reference": ("max_new_tokens", "pairwise"),
}


@dataclass(frozen=True)
class Terms:
    """What a figure must share with another to be compared, by the name a reader knows; ``target`` is shown."""

    target: str
    parts: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Equal for comparable figures."""
        return fingerprint(dict(self.parts))

    def unlike(self, other: "Terms") -> tuple[str, ...]:
        """Names of the parts that differ."""
        names = dict.fromkeys([*self.parts, *other.parts])
        return tuple(
            name for name in names if canonical_json(self.parts.get(name)) != canonical_json(other.parts.get(name))
        )


def terms_of(evaluation: Manifest, tuned: Manifest, metric: Metric) -> Terms:
    """The terms of one figure of an evaluation step of a model that ``tuned`` made. Training seeds may differ."""
    method = evaluation.step.method
    parts: dict[str, Any] = {"metrics": [metric.name, metric.slice]}
    benchmark: Any = (evaluation.summary.get("tasks") or {}).get(metric.name)
    if benchmark:
        harness = {key: value for key, value in method["harness"].items() if key not in ("tasks", "before")}
        target = f"{benchmark['task']}, version {benchmark['version']}, {benchmark['num_fewshot'] or 0} shown"
        parts["evaluation sets"] = {k: v for k, v in benchmark.items() if k != "higher_is_better"}
        parts["evaluation settings"] = harness
    else:
        target = str(dict(evaluation.step.inputs).get("pool", ""))
        names = ("version", "max_examples", *_SETTINGS.get(metric.name, tuple(sorted(method))))
        parts["evaluation sets"] = [target, metric.examples]
        parts["evaluation settings"] = {name: method[name] for name in names if name in method and name != "metrics"}
    if metric.name.startswith("win-rate"):
        parts["judges"] = evaluation.step.backends.get("judge")
    parts["models"] = model_name(tuned)
    parts["training settings"] = tuned.step.backends.get("train")
    return Terms(target, parts)


def differing(all_terms: Sequence[Terms]) -> dict[str, int]:
    """How many kinds of each part there are among terms that are not all alike; parts with one kind are left out."""
    names = dict.fromkeys(name for terms in all_terms for name in terms.parts)
    kinds = {name: len({canonical_json(terms.parts.get(name)) for terms in all_terms}) for name in names}
    return {name: count for name, count in kinds.items() if count > 1}
