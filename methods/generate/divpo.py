"""DivPO: preference pairs of a rare good answer against a common bad one."""

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from methods.answers import same_final_answer
from methods.asking import Asking
from methods.choice import diverse_pair, inverse_frequency
from methods.generate._account import Account
from methods.generate._candidates import FromCandidates, Question, same_text
from methods.generate._ledger import Pedigree
from methods.generate._scoring import Scored, likelihoods, planted, rated
from methods.parsing import checked_schema
from methods.projection import answered
from methods.prompted import Prompted
from methods.sampling import Draw
from methods.text import words
from schemas.examples import turns
from schemas.method import TOKENS_PER_WORD, Expected, Using


class Divpo(Prompted, FromCandidates):
    """Makes one preference pair per question: chosen is the most diverse of the well rewarded answers, worse the least
    diverse of the badly rewarded.

    Well (badly) rewarded: within ``range`` of the highest (lowest) reward. With ``range`` 0 this is best against worst;
    with 0.5 every answer takes part. Rewards: a judge's rating, or 1 and 0 for the reference's answer or for JSON of a
    schema. Diversity of an answer: how rare its words (or the values of its JSON) are among the question's answers, 0 to
    1, or its negated log-likelihood per token under the writer. The chosen answer is never rewarded less than the worse
    one, and never equal to it.

    Departs from the paper: there is no LLM judge of diversity. How its range parameter counts is not certain from the
    abstract, so ``range_of`` offers both readings.

    Paper: Lanchantin et al. 2025, https://arxiv.org/abs/2501.18101, section 3.
    """

    method: Literal["divpo"] = "divpo"
    speaks: ClassVar[tuple[str, ...]] = ("rate-answer",)

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
    diversity: Literal["words", "attributes", "likelihood"] = Field(
        "words", description="rare words, rare values of JSON answers, or answers that are unlikely under the writer"
    )
    judging: Asking = Field(Asking(), description="with reward: judge, how a rating is asked for")

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
        return super().asks() | writer | ({"judge"} if self.reward == "judge" else set())

    def expected_calls(self, rows: int, words: float) -> Expected:
        """The samples, a rating of each and its likelihood where these are asked for."""
        written = super().expected_calls(rows, words)
        answers = (written.calls or rows) if self.candidates != "both" else written.calls + rows
        calls = answers * ((self.judging.tries if self.reward == "judge" else 0) + (self.diversity == "likelihood"))
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
        self, question: Question, scores: Sequence[Scored], diversity: Sequence[float | None], account: Account
    ) -> None:
        usable = [i for i, value in enumerate(diversity) if value is not None]
        rewards = [float(scores[i].score or 0.0) for i in usable]
        rarity = [float(diversity[i] or 0.0) for i in usable]
        same: list[Hashable] = [same_text(question.candidates[i].text) for i in usable]
        pair = diverse_pair(rewards, rarity, same, self.range, self.range_of)
        ends = (usable[pair.chosen], usable[pair.rejected]) if pair else ()
        for i, one in enumerate(question.candidates):
            if i in ends:
                continue
            reason = "not-in-pair" if pair else "no-pair"
            reason = "no-diversity" if diversity[i] is None else reason
            detail = {"reward": scores[i].score, "diversity": _rounded(diversity[i])}
            account.refuse(one.text, reason, one.pedigree(**detail).and_then(scores[i].calls))
        if not ends:
            return
        chosen, worse = (question.candidates[i] for i in ends)
        told = {
            name: {
                "reward": scores[i].score,
                "diversity": _rounded(diversity[i]),
                "origin": question.candidates[i].origin,
            }
            for name, i in zip(("chosen", "worse"), ends, strict=True)
        }
        calls = (*chosen.calls, *worse.calls, *scores[ends[0]].calls, *scores[ends[1]].calls)
        parents = tuple(dict.fromkeys((*chosen.parents, *worse.parents)))
        told["answers"] = {"scored": len(scores)}
        for name, i in zip(("chosen", "worse"), ends, strict=True):
            account.note(f"{name}_reward", float(scores[i].score or 0.0))
            account.note(f"{name}_diversity", float(diversity[i] or 0.0))
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
            return planted(questions, self._is_right)
        return planted(questions, lambda _, text: float(_fits(text, self.reward_schema or "{}")))

    def _is_right(self, question: Question, text: str) -> float:
        return float(bool(same_final_answer(text, question.reference or "", tolerance=self.tolerance)))

    def _diversities(self, questions: Sequence[Question], using: Using) -> list[list[float | None]]:
        """Per candidate; None where it could not be had."""
        if self.diversity == "likelihood":
            model = using.llm if self.writer == "llm" else using.student
            found = likelihoods(questions, model, per_token=True)
            return [[None if one.score is None else -one.score for one in scores] for scores in found]
        read = _attributes if self.diversity == "attributes" else words
        return [[*inverse_frequency([read(one.text) for one in question.candidates])] for question in questions]


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


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
