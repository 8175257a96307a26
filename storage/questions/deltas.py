"""What did training on one version do that training on the other did not? Figures side by side, compared only if alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.lineage import Manifest
from storage.questions.comparable import Terms, terms_of
from storage.questions.training import training_of
from storage.questions.views import Metric, View
from storage.store import Store


class Count(View):
    """A figure on both sides. ``unlike`` names what else differs; the two are then not to be compared."""

    name: str
    before: float | None
    after: float | None
    unlike: tuple[str, ...] = ()

    @property
    def change(self) -> float | None:
        """After - before; None where a side is unknown or the two are unlike."""
        return None if self.before is None or self.after is None or self.unlike else self.after - self.before


@dataclass(frozen=True)
class _Figure:
    value: float
    terms: Terms
    rng_seed: int


def metric_deltas(store: Store, before: Manifest, after: Manifest) -> tuple[Count, ...]:
    """Each figure of the models trained on both versions: the newest alike on both sides, of one training seed if possible.

    Where no two are alike the newest of each side stand there with what differs.
    """
    old, new = _figures(store, before), _figures(store, after)
    return tuple(_count(name, old.get(name, ()), new.get(name, ())) for name in dict.fromkeys([*old, *new]))


def _count(name: str, old: Sequence[_Figure], new: Sequence[_Figure]) -> Count:
    if not old or not new:
        return Count(name=name, before=old[-1].value if old else None, after=new[-1].value if new else None)
    pairs = [
        (one.rng_seed == other.rng_seed, j, i)
        for i, one in enumerate(old)
        for j, other in enumerate(new)
        if one.terms.key == other.terms.key
    ]
    if not pairs:
        unlike = old[-1].terms.unlike(new[-1].terms)
        return Count(name=name, before=old[-1].value, after=new[-1].value, unlike=unlike)
    _, j, i = max(pairs)
    return Count(name=name, before=old[i].value, after=new[j].value)


def _figures(store: Store, version: Manifest) -> dict[str, list[_Figure]]:
    """Figures by name, oldest first, of models trained on this version; where there is none, on what came of it."""
    below = store.downstream(version.ref)
    tuned = {str(m.ref): m for m in below if m.ref.stage == "finetune"}
    direct = {ref: m for ref, m in tuned.items() if dict(m.step.inputs).get("dataset") == version.ref}
    tuned = direct or tuned
    found: dict[str, list[_Figure]] = {}
    for step in below:
        model = tuned.get(str(step.ref)) or tuned.get(str(dict(step.step.inputs).get("model")))
        if model is None or step.ref.stage not in ("finetune", "evaluate"):
            continue
        for metric in training_of(step).metrics:
            if metric.value is not None:
                name = metric.name if metric.slice == "all" else f"{metric.name} on {metric.slice}"
                terms = terms_of(step, model, metric) if step is not model else _trained(model, metric)
                found.setdefault(name, []).append(_Figure(metric.value, terms, model.step.rng_seed))
    return found


def _trained(model: Manifest, metric: Metric) -> Terms:
    """A figure of the training itself: comparable under equal settings, but a loss on its own rows only with those rows."""
    parts = {"metrics": metric.name, "training settings": model.step.backends.get("train")}
    if metric.name.endswith("loss"):
        parts["training rows"] = str(dict(model.step.inputs).get("dataset"))
    return Terms("", parts)
