"""A recipe: the YAML of one curation, validated whole before anything is spent."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from backends.config import AnyEmbed, AnyLLM, AnyNLI, AnySandbox, AnyTrain, AnyTune
from backends.nli.embedding import EmbeddingNLI
from backends.sandbox.auto import AutoSandbox
from methods.decontaminate import AnyDecontaminate
from methods.dedup import AnyDedup
from methods.filter import AnyFilter
from methods.generate import AnyGenerate
from methods.mix import AnyMix
from methods.rank import AnyRank
from methods.select import AnySelect
from schemas.errors import BadName, RecipeError
from schemas.lineage import checked_name
from schemas.recipe_evaluation import Evaluation, rebase_evaluation
from schemas.recipe_run import Budget, Running
from schemas.safe_yaml import load_yaml
from schemas.sources import SourceSpec


class Strict(BaseModel):
    """Frozen, and a key that is not known is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _list(value: Any) -> Any:
    """One step may stand where a list of steps is expected."""
    return [value] if isinstance(value, Mapping | BaseModel) else value


class RecipeSource(SourceSpec):
    """A source and what it is for.

    ``pool``: its examples are candidates for the training set. ``seeds``: they are only shown to a generator.
    ``target``: they are only aimed at and evaluated on, and never trained on.
    """

    role: Literal["pool", "seeds", "target"] = Field("pool", description="pool (to be curated), seeds, or target")


def _source(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


class Generation(Strict):
    """New examples, written by a teacher from seed examples, as a pool of its own."""

    name: str = Field("synthetic", description="name of the pool that the new examples form")
    seeds: str = Field(description="the source, or an earlier `generate` step, whose examples are worked from")
    keep: bool = Field(
        True, description="whether the new examples are candidates themselves, not only seeds of later steps"
    )
    license: str | None = Field(
        None,
        description="licence or terms of what the teacher writes, such as LicenseRef-OpenAI-terms; joins the seeds'",
    )
    by: AnyGenerate


class Decontamination(Strict):
    """Which benchmarks must not leak into the set, and when the gate stops training."""

    benchmarks: tuple[str, ...] = Field(
        min_length=1, description="names of shipped or added packs, paths of your own files, or hub:owner/name@commit"
    )
    by: Annotated[tuple[AnyDecontaminate, ...], BeforeValidator(_list)] = Field(
        min_length=1, description="one method, or several that are applied in turn"
    )
    max_source_overlap: float | None = Field(
        None,
        ge=0,
        le=1,
        description="drop a whole source that holds more than this share of a benchmark (Tülu 3: 0.02)",
    )
    max_contaminated_fraction: float = Field(
        0.0, ge=0, le=1, description="share of the published set that may still match before the gate closes"
    )


class Finetuning(Strict):
    """Train on exactly the published dataset."""

    by: AnyTrain
    trigger: Literal["inline", "deployment", "event"] = Field(
        "inline", description="inline: here; deployment: on a work pool; event: emit one that an automation picks up"
    )
    deployment: str = Field("finetune/gpu", description="flow/deployment to run when the trigger is 'deployment'")
    wait: bool = Field(True, description="whether a triggered deployment is waited for")
    override_gate: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None = Field(
        None, description="a written reason to train although the gate is closed; recorded"
    )
    non_commercial_ok: bool = Field(False, description="train although a licence forbids commercial use; recorded")
    row_losses: int = Field(
        1000,
        ge=0,
        description="after training, measure the loss of so many training rows before and after (drawn by id); 0: none",
    )


class Contender(Strict):
    """One way to choose: a ranking cut at the budget, or a selection that looks at the set."""

    name: str = Field(default="", description="as it stands in the table; by default the method's tag")
    rank: AnyRank | None = None
    select: AnySelect | None = Field(default=None, description="how the ranking is cut; by default the top of it")

    @model_validator(mode="after")
    def _something(self) -> "Contender":
        if self.rank is None and (self.select is None or self.select.ranked):
            raise ValueError("a contender needs `rank:`, or a `select:` that needs no ranking (k-center, …)")
        return self

    @property
    def label(self) -> str:
        """Its name in tables."""
        tags = [m.name for m in (self.rank, self.select) if m is not None]
        return self.name or " + ".join(tags)


class Bakeoff(Strict):
    """Ways to choose, tried: small proxies are trained on what each one selects and measured on the target set.

    ``uniform`` is always among them, with a draw of its own for every seed.
    """

    contenders: tuple[Contender, ...] = Field(min_length=1)
    keep_examples: int | None = Field(
        None, gt=0, description="budget of every contender in examples, whatever its `select` says"
    )
    budget_tokens: int | None = Field(
        None, gt=0, description="the same in tokens, estimated: what is long then wins nothing by its length"
    )
    seeds: int = Field(
        3, ge=2, le=100, description="proxies per contender; each seed trains anew, and draws anew where chance decides"
    )
    max_target_examples: int = Field(200, gt=1, description="target examples that the proxies are measured on")
    use_best: bool = Field(
        False, description="curate goes on with the winner's selection (uniform's, where nothing beats it)"
    )

    @model_validator(mode="after")
    def _one_budget(self) -> "Bakeoff":
        if (self.keep_examples is None) == (self.budget_tokens is None):
            raise ValueError("give one of keep_examples and budget_tokens")
        return self


class BackendChoices(Strict):
    """The engines. A method that needs one which is not given is a mistake that ``check`` reports."""

    llm: AnyLLM | None = Field(default=None, description="writes: the teacher")
    judge: AnyLLM | None = Field(default=None, description="judges answers and texts; `llm` where it is not given")
    student: AnyLLM | None = Field(
        default=None, description="the model that will be trained, to score under; `llm` if not given"
    )
    embed: AnyEmbed | None = Field(default=None, description="texts to vectors")
    nli: AnyNLI | None = Field(
        default=None, description="entailment between two texts; the named substitute over `embed` if not given"
    )
    tune: AnyTune | None = Field(default=None, description="fine-tunes small proxies to measure or correct with")
    sandbox: AnySandbox | None = Field(
        default=None, description="runs generated code; the strongest that this machine offers if not given"
    )

    def named(self, need: str) -> Any:
        """The config behind a name in a method's ``needs``, or None."""
        given = getattr(self, need, None)
        if given is None and need in ("judge", "student"):
            return self.llm
        if given is None and need == "sandbox":
            return AutoSandbox()
        if given is None and need == "nli":  # its identity, and so the manifest, says that it is a substitute
            return EmbeddingNLI(embed=self.embed) if self.embed else EmbeddingNLI()
        return given


class Recipe(Strict):
    """One curation, from sources to a published dataset and its fine-tuning."""

    name: str
    rng_seed: int = 0
    sources: dict[str, Annotated[RecipeSource, BeforeValidator(_source)]] = Field(min_length=1)
    generate: Annotated[tuple[Generation, ...], BeforeValidator(_list)] = ()
    dedup: Annotated[tuple[AnyDedup, ...], BeforeValidator(_list)] = ()
    filter: Annotated[tuple[AnyFilter, ...], BeforeValidator(_list)] = ()
    decontaminate: Decontamination | None = None
    rank: AnyRank | None = None
    target: str | None = Field(None, description="the source (role: target) that a ranking method aims at")
    select: AnySelect | None = None
    mix: AnyMix | None = None
    bakeoff: Bakeoff | None = Field(None, description="tried by `provender bakeoff`, and by a run with `use_best`")
    finetune: Finetuning | None = None
    evaluate: Evaluation | None = None
    budget: Budget = Budget()
    backends: BackendChoices = BackendChoices()
    run: Running = Field(Running(), description="how the work is cut up; changes no result")
    runner: Literal["threads", "ray"] = Field(
        default="threads",
        description="where shards run: threads here, or a Ray cluster (extra: ray); changes no result",
    )

    @model_validator(mode="before")
    @classmethod
    def _best_of_bakeoff(cls, given: Any) -> Any:
        """``select: {by: best-of-bakeoff}`` is another way to write ``bakeoff: {use_best: true}``."""
        if not isinstance(given, dict) or given.get("select") != {"by": "best-of-bakeoff"}:
            return given
        if not isinstance(given.get("bakeoff"), dict):
            raise ValueError("select: best-of-bakeoff needs a `bakeoff:` section with contenders")
        rest = {name: value for name, value in given.items() if name != "select"}
        return rest | {"bakeoff": given["bakeoff"] | {"use_best": True}}

    @model_validator(mode="after")
    def _belongs_together(self) -> "Recipe":
        """Cross references, all mistakes at once."""
        mistakes = list(self._mistakes())
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    def _mistakes(self) -> Sequence[str]:
        found: list[str] = []
        for place, name in [("name", self.name), *((f"sources.{n}", n) for n in self.sources)]:
            try:
                checked_name(name, place)
            except BadName as error:
                found.append(str(error))
        names = ", ".join(sorted(self.sources))
        for i, step in enumerate(self.generate):
            earlier = [g.name for g in self.generate[:i]]
            if step.seeds not in self.sources and step.seeds not in earlier:
                known = names + (f"; earlier steps: {', '.join(earlier)}" if earlier else "")
                found.append(f"generate.{i}.seeds: no source {step.seeds!r}; sources: {known}")
            if step.name in self.sources:
                found.append(f"generate.{i}.name: {step.name!r} is already a source; choose another name")
        for place, target in (("target", self.target), ("evaluate.target", self.evaluate and self.evaluate.target)):
            if target and target not in self.sources:
                found.append(f"{place}: no source {target!r}; sources: {names}")
            elif target and self.sources[target].role != "target":
                found.append(f"{place}: source {target!r} has role {self.sources[target].role!r}; it must be 'target'")
        if not self.generate and not any(s.role == "pool" for s in self.sources.values()):
            found.append("sources: none has role 'pool' and nothing is generated, so there is nothing to curate")
        if self.select and self.select.ranked and not self.rank:
            found.append("select: there is no ranking to cut; add `rank: {method: uniform}` or another")
        if self.bakeoff:
            found += self._bakeoff_mistakes(self.bakeoff)
        for place, method in self.methods():
            for need in sorted(method.needs):
                if self.backends.named(need) is None:
                    found.append(f"{place}: {method.name} needs a backend; add `backends: {{{need}: …}}`")
        return found

    def _bakeoff_mistakes(self, bakeoff: Bakeoff) -> list[str]:
        found: list[str] = []
        if not self.target:
            found.append("bakeoff: proxies are measured on a target set; name a source with role 'target' in `target:`")
        if self.backends.tune is None:
            found.append("bakeoff: proxies are trained by a tuner; add `backends: {tune: {backend: torch}}`")
        labels = [contender.label for contender in bakeoff.contenders]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            found.append(f"bakeoff.contenders: {', '.join(twice)} stands there twice; give them a `name:`")
        if bakeoff.use_best and (self.rank or self.select):
            found.append("bakeoff.use_best: the winner selects; remove `rank:` and `select:`")
        return found

    def methods(self) -> list[tuple[str, Any]]:
        """Every method of the recipe with its YAML path."""
        found: list[tuple[str, Any]] = [(f"generate.{i}.by", g.by) for i, g in enumerate(self.generate)]
        found += [(f"dedup.{i}", m) for i, m in enumerate(self.dedup)]
        found += [(f"filter.{i}", m) for i, m in enumerate(self.filter)]
        if self.decontaminate:
            found += [(f"decontaminate.by.{i}", m) for i, m in enumerate(self.decontaminate.by)]
        for i, contender in enumerate(self.bakeoff.contenders if self.bakeoff else ()):
            tried = [("rank", contender.rank), ("select", contender.select)]
            found += [(f"bakeoff.contenders.{i}.{stage}", m) for stage, m in tried if m is not None]
        found += [(stage, m) for stage in ("rank", "select", "mix") if (m := getattr(self, stage)) is not None]
        if self.evaluate and self.evaluate.target and "pairwise" in self.evaluate.metrics:
            found.append(("evaluate.pairwise", self.evaluate.pairwise))
        return found


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with ``--set a.b=c`` overrides; relative paths are taken from the recipe's folder.

    Raises ``RecipeError`` with every mistake and its YAML path.
    """
    path = Path(path)
    document, line_of = load_yaml(path)
    if not isinstance(document, dict):
        raise RecipeError(str(path), [f"a recipe is a mapping of keys, this is a {type(document).__name__}"])
    for text in overrides:
        override(document, text)
    rebase(document, path.parent)
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise RecipeError(str(path), mistakes_of(error, line_of)) from None


def override(document: dict[str, Any], text: str) -> None:
    """Apply one ``a.b.0.c=value`` to a parsed document; the value is YAML. Raises ``RecipeError``."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise RecipeError(f"--set {text}", ["an override looks like select.keep_examples=5000"])
    parsed, _ = load_yaml(value, what=f"--set {key}")
    place: Any = document
    words = key.split(".")
    for i, word in enumerate(words):
        last = i == len(words) - 1
        if isinstance(place, list):
            if not word.isdigit() or int(word) >= len(place):
                raise RecipeError(f"--set {text}", [f"{'.'.join(words[:i])} has {len(place)} entries, no {word!r}"])
            index: Any = int(word)
        elif isinstance(place, dict):
            index = word
        else:
            raise RecipeError(f"--set {text}", [f"{'.'.join(words[:i])} is a value, it has no key {word!r}"])
        if last:
            place[index] = parsed
        else:
            place = place[index] if isinstance(place, list) else place.setdefault(index, {})


def rebase(document: dict[str, Any], folder: Path) -> None:
    """Make relative paths of sources, benchmarks and prompt files relative to the recipe's folder, not the caller's."""
    rebase_prompts(document, folder)
    sources = document.get("sources")
    if isinstance(sources, dict):
        for name, source in sources.items():
            if isinstance(source, str):
                sources[name] = _rebased(source, folder)
            elif isinstance(source, dict) and isinstance(source.get("path"), str):
                source["path"] = _rebased(source["path"], folder)
    rebase_evaluation(document.get("evaluate"), lambda text: _rebased(text, folder))
    clean = document.get("decontaminate")
    if isinstance(clean, dict) and isinstance(clean.get("benchmarks"), list):
        clean["benchmarks"] = [
            _rebased(item, folder) if isinstance(item, str) and ("/" in item or "." in item) else item
            for item in clean["benchmarks"]
        ]


def rebase_prompts(place: Any, folder: Path) -> None:
    """The same for prompt files, wherever a method names some (``prompts: {name: file.md}``)."""
    if isinstance(place, dict):
        files = place.get("prompts")
        if isinstance(files, dict):
            for name, value in files.items():
                if isinstance(value, str) and not value.startswith("---"):
                    files[name] = _rebased(value, folder)
        for value in place.values():
            rebase_prompts(value, folder)
    elif isinstance(place, list):
        for value in place:
            rebase_prompts(value, folder)


def _rebased(text: str, folder: Path) -> str:
    if text.startswith("hub:") or Path(text).is_absolute():
        return text
    return os.path.normpath(folder / text)


def mistakes_of(error: ValidationError, line_of: Mapping[str, int] | None = None) -> list[str]:
    """Each mistake of a validation as ``line 12, filter.0.clear.k: what is wrong``."""
    found: list[str] = []
    places = [detail["loc"] for detail in error.errors()]
    for detail in error.errors():
        if detail["type"] == "too_short" and any(place[:-1][: len(detail["loc"])] == detail["loc"] for place in places):
            continue  # short of items that are wrong themselves, and told of
        path = ".".join(str(part) for part in detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        if not path:
            found += message.splitlines()
            continue
        line = _line(path, line_of or {})
        found.append(f"{f'line {line}, ' if line else ''}{path}: {message}")
    return found


def _line(path: str, line_of: Mapping[str, int]) -> int | None:
    """Line of the longest prefix of the path that stands in the file (union tags are not in it)."""
    words = path.split(".")
    known = [w for w in words]
    for end in range(len(known), 0, -1):
        for skip in range(end):
            for candidate in (".".join(known[:end]), ".".join(known[:skip] + known[skip + 1 : end])):
                if candidate in line_of:
                    return line_of[candidate]
    return None
