"""DivPO: preference pairs of a rare good answer against a common bad one."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from methods.asking.answers import same_final_answer
from methods.asking.choice import diverse_pair, inverse_frequency
from methods.asking.parsing import checked_schema
from methods.asking.projection import answered
from methods.asking.prompted import Prompted
from methods.asking.sampling import Draw
from methods.asking.structured import Asking
from methods.generate._account import Account
from methods.generate._candidates import FromCandidates, Question, same_text
from methods.generate._ledger import Pedigree
from methods.generate._scoring import Scored, computed, likelihoods, rated, unlike
from methods.texts.words import words
from schemas.examples import turns
from schemas.method import TOKENS_PER_WORD, Expected, Using


class Divpo(Prompted, FromCandidates):
    """Makes one preference pair per question: chosen is the most diverse of the well rewarded answers, worse the least
    diverse of the badly rewarded.

    Well (badly) rewarded: within ``range`` of the highest (lowest) reward. With ``range`` 0 this is best against worst;
    with 0.5 every answer takes part. Rewards: a judge's rating, or 1 and 0 for the reference's answer or for JSON of a
    schema. Diversity of an answer: how rare its words (or the values of its JSON) are among the question's answers, 0 to
    1; its negated log-likelihood per token under the writer; or a judge's rating of it beside the others, 0 to 10. The
    chosen answer is never rewarded less than the worse one, and never equal to it.

    How the paper's range parameter counts is not certain from its abstract, so ``range_of`` offers both readings.

    Paper: Lanchantin et al. 2025, https://arxiv.org/abs/2501.18101, section 3.
    """

    method: Literal["divpo"] = "divpo"
    speaks: ClassVar[tuple[str, ...]] = ("rate-answer", "rate-diversity")

    samples: int = Field(16, ge=2, le=1000, description="answers sampled per question")
    draw: Draw = Field(Draw(max_tokens=512, temperature=1.0), description="how answers are sampled")
    reward: Literal["judge", "reference", "schema"] = Field(
        "judge",
        description="a judge's rating, 1 for the reference's final answer, or 1 for JSON that fits `reward_schema`",
    )
    reward_schema: str | None = Field(None, description="JSON schema of a good answer, as a mapping or as text")
    range: float = Field(0.1, ge=0, le=0.5, description="how far from the best and from the worst reward still counts")
    range_of: Literal["range", "rank"] = Field(
        "range", description="range as a fraction of highest minus lowest reward, or of the number of answers"
    )
    diversity: Literal["words", "attributes", "likelihood", "judge"] = Field(
        "words",
        description="rare words, rare values of JSON answers, answers that are unlikely under the writer, or a judge's word",
    )
    judging: Asking = Field(Asking(), description="where a judge rates: how it is asked")

    @model_validator(mode="before")
    @classmethod
    def _reads_its_schema(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("reward_schema") is not None:
            return {**data, "reward_schema": checked_schema(data["reward_schema"])}
        return data

    @model_validator(mode="after")
    def _is_possible(self) -> "Divpo":
        if self.reward == "reference" and self.reference is None:
            raise ValueError(
                "reward: reference needs `reference`, the field of the source row with the reference answer"
            )
        if self.reward == "schema" and self.reward_schema is None:
            raise ValueError("reward: schema needs `reward_schema`")
        return self

    def asks(self) -> set[str]:
        """The writer where answers are sampled or their likelihood counts, and the judge where it rates."""
        writer = {self.writer} if self.diversity == "likelihood" else set[str]()
        return super().asks() | writer | ({"judge"} if "judge" in (self.reward, self.diversity) else set())

    def expected_calls(self, rows: int, words: float) -> Expected:
        """The samples, a rating of each and its likelihood where these are asked for."""
        written = super().expected_calls(rows, words)
        ratings = (self.reward == "judge") + (self.diversity == "judge")
        calls = self.answers_of(rows) * (ratings * self.judging.tries + (self.diversity == "likelihood"))
        each = words * TOKENS_PER_WORD + self.draw.max_tokens + self.judging.draw.max_tokens
        return Expected(written.calls + calls, round(written.tokens + calls * each))

    def check(self, question: Question, account: Account) -> None:
        """Wrong answers stay: they are what the worse side is made of. Without any reference there is no reward."""
        if self.reward == "reference" and question.reference is None:
            for one in question.candidates:
                account.refuse(one.text, "no-reference", one.pedigree())
            question.candidates = []
        elif self.reward != "reference":
            super().check(question, account)

    def choose(self, questions: Sequence[Question], account: Account, *, using: Using) -> None:
        """One pair of each question; all other answers are refused with their rewards."""
        rewards = self._rewards(questions, using)
        for question, scores in zip(questions, rewards, strict=True):
            unscored = [i for i, score in enumerate(scores) if score.score is None]
            for i in unscored:
                one = question.candidates[i]
                account.refuse(one.text, f"unscored-{scores[i].failure}", one.pedigree(**scores[i].detail))
            question.candidates = [one for i, one in enumerate(question.candidates) if i not in unscored]
        scored = [[score for score in scores if score.score is not None] for scores in rewards]
        diversities = self._diversities(questions, using)
        for question, scores, diversity in zip(questions, scored, diversities, strict=True):
            self._pair(question, scores, diversity, account)

    def notes(self, account: Account) -> Mapping[str, Any]:
        """Mean reward and diversity of the chosen and of the worse answers."""
        names = ("chosen_reward", "worse_reward", "chosen_diversity", "worse_diversity")
        return {f"mean_{name}": account.mean(name) for name in names}

    def _pair(
        self, question: Question, scores: Sequence[Scored], diversity: Sequence[Scored], account: Account
    ) -> None:
        seen = [
            _Seen(float(s.score or 0.0), d.score, (*s.calls, *d.calls)) for s, d in zip(scores, diversity, strict=True)
        ]
        usable = [i for i, one in enumerate(seen) if one.diversity is not None]
        same: list[Hashable] = [same_text(question.candidates[i].text) for i in usable]
        rarity = [seen[i].diversity or 0.0 for i in usable]
        pair = diverse_pair([seen[i].reward for i in usable], rarity, same, self.range, self.range_of)
        ends = (usable[pair.chosen], usable[pair.rejected]) if pair else ()
        for i, one in enumerate(question.candidates):
            if i not in ends:
                reason = "not-in-pair" if pair else "no-pair"
                reason = f"undiverse-{diversity[i].failure}" if i not in usable else reason
                account.refuse(one.text, reason, one.pedigree(**seen[i].told).and_then(seen[i].calls))
        if not ends:
            return
        told: dict[str, Any] = {"scored": len(scores)}
        for name, i in zip(("chosen", "worse"), ends, strict=True):
            told[name] = {**seen[i].told, "origin": question.candidates[i].origin}
            account.note(f"{name}_reward", seen[i].reward)
            account.note(f"{name}_diversity", seen[i].diversity or 0.0)
        chosen, worse = (question.candidates[i] for i in ends)
        calls = (*chosen.calls, *worse.calls, *seen[ends[0]].calls, *seen[ends[1]].calls)
        parents = tuple(dict.fromkeys((*chosen.parents, *worse.parents)))
        account.create(
            answered(chosen.before, chosen.text),
            Pedigree(parents, tuple(dict.fromkeys(calls)), told),
            tools=chosen.tools,
            worse=turns(("assistant", worse.text)),
        )

    def _rewards(self, questions: Sequence[Question], using: Using) -> list[list[Scored]]:
        if self.reward == "judge":
            prompt = self.prompt("rate-answer")
            return rated(questions, prompt, using.judge, self.judging, 1, seed=0)
        if self.reward == "reference":
            return computed(questions, self._is_right)
        return computed(questions, lambda _, text: float(_fits(text, self.reward_schema or "{}")))

    def _is_right(self, question: Question, text: str) -> float:
        return float(bool(same_final_answer(text, question.reference or "", tolerance=self.tolerance)))

    def _diversities(self, questions: Sequence[Question], using: Using) -> list[list[Scored]]:
        if self.diversity == "judge":
            return unlike(questions, self.prompt("rate-diversity"), using.judge, self.judging)
        if self.diversity == "likelihood":
            model = using.llm if self.writer == "llm" else using.student
            found = likelihoods(questions, model, per_token=True)
            return [[replace(one, score=None if one.score is None else -one.score) for one in row] for row in found]
        read = _attributes if self.diversity == "attributes" else words
        rare = [inverse_frequency([read(one.text) for one in question.candidates]) for question in questions]
        return [[Scored(value) for value in row] for row in rare]


@dataclass(frozen=True)
class _Seen:
    """What is known of one candidate; without a diversity it takes no part."""

    reward: float
    diversity: float | None
    calls: tuple[bytes, ...]

    @property
    def told(self) -> dict[str, float | None]:
        """For the evidence, to six digits."""
        return {"reward": self.reward, "diversity": None if self.diversity is None else round(self.diversity, 6)}


def _fits(text: str, schema: str) -> bool:
    """Whether a text is JSON of a schema."""
    from jsonschema import Draft202012Validator

    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return Draft202012Validator(json.loads(schema)).is_valid(value)


def _attributes(text: str) -> list[str]:
    """The values of a JSON answer under their keys; none for an answer that is no JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return (
        [f"{key}={json.dumps(part, sort_keys=True)}" for key, part in value.items()] if isinstance(value, dict) else []
    )
