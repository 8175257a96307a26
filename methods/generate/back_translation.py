"""Back-translation: other questions for the same answer, by way of another language or from the answer itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field, field_validator, model_validator

from backends.protocols import NLI, Embedder, Request
from methods.asking.projection import answered, asking
from methods.asking.prompted import Prompted
from methods.asking.rewriting import refusal_of
from methods.asking.sampling import Draw, calls_of, sample, sample_each
from methods.asking.structured import Asking
from methods.generate._account import Account
from methods.generate._candidates import blocks, same_text
from methods.generate._ledger import Pedigree
from methods.generate._pool import Given, given_of
from methods.generate._scoring import ratings
from methods.keyed import drawn_seed
from methods.needs import needed
from schemas.method import TOKENS_PER_WORD, Expected, Generated, GenerateMethod, Using


@dataclass(frozen=True)
class Version:
    """One new question for an example's answer."""

    one: Given
    text: str
    pedigree: Pedigree


class BackTranslation(Prompted, GenerateMethod):
    """Gives an example's answer, which stays as it is, other questions.

    ``write: paraphrase``: its question goes through each of the ``pivots`` and back. A version is taken if it is not the
    question itself, if both entail each other (``min_entailment``), and if their cosine lies between ``min_similarity`` and
    ``max_similarity``: other words, same meaning. ``write: instruction``: the teacher writes the instruction that the
    answer responds to, and a judge's rating of the pair decides (``min_rating`` of 10). All rows of one example share
    ``group`` in the evidence: they must not be split over training and test.

    Departs from the papers: both directions are asked of one instruction-following teacher instead of translation models;
    the thresholds are knobs, not the papers' values.

    Paper: Sennrich et al. 2016, https://arxiv.org/abs/1511.06709 (through a pivot); Li et al. 2023,
    https://arxiv.org/abs/2308.06259, section 2 (instruction); Najafi & Fyshe 2024, https://arxiv.org/abs/2403.02271
    (paraphrases of an input as training rows).
    """

    method: Literal["back-translation"] = "back-translation"
    needs: ClassVar[frozenset[str]] = needed({"llm", "nli", "embed", "judge"}, lambda method: method.asks())
    speaks: ClassVar[tuple[str, ...]] = ("translate", "write-instruction", "rate-answer")

    write: Literal["paraphrase", "instruction"] = Field(
        "paraphrase", description="the question through another language and back, or a new one from the answer"
    )
    language: str = Field("English", description="with paraphrase: the language of the questions")
    pivots: tuple[str, ...] = Field(
        ("German", "French"), min_length=1, description="languages the questions go through"
    )
    versions: int = Field(1, ge=1, le=100, description="new questions asked for per pivot, or per answer")
    include_given: bool = Field(False, description="the example itself stands among the rows of its group")
    min_entailment: float | None = Field(
        0.5, ge=0, le=1, description="probability that each of the two questions entails the other; null: not asked"
    )
    min_similarity: float = Field(0.5, ge=-1, le=1, description="cosine of both questions' embeddings, at least")
    max_similarity: float = Field(0.98, ge=-1, le=1, description="cosine of both questions' embeddings, at most")
    compare: bool = Field(True, description="with paraphrase: apply the similarity range")
    min_rating: float | None = Field(
        8, ge=0, le=10, description="with instruction: the judge's rating, at least; null: none"
    )
    draw: Draw = Field(Draw(max_tokens=512, temperature=0.7), description="how translations and instructions are drawn")
    judging: Asking = Field(Asking(), description="with instruction: how a rating is asked for")

    @field_validator("pivots")
    @classmethod
    def _once_each(cls, pivots: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(pivots)) != len(pivots) or not all(name.strip() for name in pivots):
            raise ValueError("pivots are languages, each named once")
        return pivots

    @model_validator(mode="after")
    def _is_possible(self) -> "BackTranslation":
        if self.min_similarity > self.max_similarity:
            raise ValueError("min_similarity is above max_similarity, so that nothing could pass")
        if self.versions > 1 and self.draw.temperature == 0:
            raise ValueError(
                "several versions of a greedy draw are one version; raise draw.temperature or set versions: 1"
            )
        return self

    def asks(self) -> set[str]:
        """The engines that these settings ask."""
        if self.write == "instruction":
            return {"llm"} | ({"judge"} if self.min_rating is not None else set())
        return (
            {"llm"} | ({"nli"} if self.min_entailment is not None else set()) | ({"embed"} if self.compare else set())
        )

    def expected_calls(self, rows: int, words: float) -> Expected:
        """Two translations per version, or an instruction and its rating."""
        each = words * TOKENS_PER_WORD + 80 + self.draw.max_tokens
        if self.write == "paraphrase":
            calls = rows * self.versions * len(self.pivots) * 2
            return Expected(calls, round(calls * each))
        rated = self.judging.tries if self.min_rating is not None else 0
        rating = each + self.judging.draw.max_tokens
        return Expected(rows * self.versions * (1 + rated), round(rows * self.versions * (each + rated * rating)))

    def generate(self, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> Generated:
        """New questions for each example, in order of ids; every version that was not taken has its reason."""
        account = Account()
        seed = drawn_seed(rng) % 2**31
        given = given_of(seeds, account, self.name)
        for done, part in blocks(given):
            if self.include_given:
                for one in part:
                    told = {"group": one.id.hex(), "version": "given"}
                    account.create(answered(one.before, one.answer), Pedigree((one.id,), (), told), tools=one.tools)
            versions = self._unlike(self._written(part, seed, account, using), account)
            for version in self._verified(versions, account, using):
                messages = answered(asking(version.one.before, version.text), version.one.answer)
                account.create(messages, version.pedigree, tools=version.one.tools)
            using.progress(done, len(given), f"{len(account.created)} rows")
        return account.settled(seeds["id"], {}, self.name)

    def _written(self, given: Sequence[Given], seed: int, account: Account, using: Using) -> list[Version]:
        """The new questions as they came; failed calls are refused."""
        sampling = self.draw.sampling(seed)
        if self.write == "instruction":
            prompt = self.prompt("write-instruction")
            requests = [Request.ask(prompt.render(response=one.answer), sampling) for one in given]
            return self._kept(given, requests, [{} for _ in given], account, using)
        prompt = self.prompt("translate")
        there = [(one, pivot) for one in given for pivot in self.pivots]
        requests = [Request.ask(prompt.render(text=one.question, language=pivot), sampling) for one, pivot in there]
        told = [{"pivot": pivot} for _, pivot in there]
        abroad = self._kept([one for one, _ in there], requests, told, account, using)
        back = [Request.ask(prompt.render(text=version.text, language=self.language), sampling) for version in abroad]
        replies = sample(using.llm, back)
        home: list[Version] = []
        for version, reply in zip(abroad, replies, strict=True):
            pedigree = version.pedigree.and_then(calls_of([reply]), abroad=version.text[:400])
            self._keep(version.one, reply.text.strip(), refusal_of(reply), pedigree, home, account)
        return home

    def _kept(
        self,
        given: Sequence[Given],
        requests: Sequence[Request],
        told: Sequence[dict[str, str]],
        account: Account,
        using: Using,
    ) -> list[Version]:
        """``versions`` usable replies per request."""
        replies = sample_each(using.llm, requests, self.versions)
        found: list[Version] = []
        for one, evidence, row in zip(given, told, replies, strict=True):
            for number, reply in enumerate(row):
                about = {"group": one.id.hex(), "version": number, "write": self.write, **evidence}
                pedigree = Pedigree((one.id,), tuple(calls_of([reply])), about)
                self._keep(one, reply.text.strip(), refusal_of(reply), pedigree, found, account)
        return found

    @staticmethod
    def _keep(
        one: Given, text: str, reason: str | None, pedigree: Pedigree, found: list[Version], account: Account
    ) -> None:
        if reason:
            account.refuse(text, reason, pedigree)
        else:
            found.append(Version(one, text, pedigree))

    def _unlike(self, versions: Sequence[Version], account: Account) -> list[Version]:
        """Those that are neither the question itself nor a repeat of an earlier version of it."""
        seen: set[tuple[bytes, str]] = set()
        left: list[Version] = []
        for version in versions:
            key = (version.one.id, same_text(version.text).lower())
            if key[1] == same_text(version.one.question).lower():
                account.refuse(version.text, "equals-the-question", version.pedigree)
            elif key in seen:
                account.refuse(version.text, "repeats-version", version.pedigree)
            else:
                left.append(version)
            seen.add(key)
        return left

    def _verified(self, versions: Sequence[Version], account: Account, using: Using) -> list[Version]:
        """Those that mean the same, or whose answer a judge finds to respond to them."""
        if self.write == "instruction":
            return self._rated(versions, account, using) if self.min_rating is not None else [*versions]
        if self.min_entailment is not None:
            versions = self._entailing(versions, self.min_entailment, account, using.nli)
        return self._similar(versions, account, using.embed) if self.compare else [*versions]

    def _rated(self, versions: Sequence[Version], account: Account, using: Using) -> list[Version]:
        asked = [
            (Given(v.one.id, tuple(asking(v.one.before, v.text)), v.one.answer, None, "", {}), v.one.answer)
            for v in versions
        ]
        prompt = self.prompt("rate-answer")
        heard = ratings(asked, prompt, using.judge, self.judging, seed=0)
        left: list[Version] = []
        for version, said in zip(versions, heard, strict=True):
            pedigree = version.pedigree.and_then(said.calls, rating=said.value)
            if said.value is None:
                account.refuse(version.text, f"unrated-{said.failure}", pedigree)
            elif said.value < (self.min_rating or 0):
                account.refuse(version.text, "low-rating", pedigree)
            else:
                left.append(Version(version.one, version.text, pedigree))
        return left

    def _entailing(self, versions: Sequence[Version], least: float, account: Account, nli: NLI) -> list[Version]:
        pairs = [(v.one.question, v.text) for v in versions]
        chances = nli.judge([*pairs, *((b, a) for a, b in pairs)])[:, 2]
        left: list[Version] = []
        for i, version in enumerate(versions):
            both = (round(float(chances[i]), 4), round(float(chances[len(pairs) + i]), 4))
            pedigree = version.pedigree.and_then(entailment=list(both))
            if min(both) < least:
                account.refuse(version.text, "not-entailed", pedigree)
            else:
                left.append(Version(version.one, version.text, pedigree))
        return left

    def _similar(self, versions: Sequence[Version], account: Account, embed: Embedder) -> list[Version]:
        if not versions:
            return []
        vectors = embed.embed([v.one.question for v in versions]), embed.embed([v.text for v in versions])
        left: list[Version] = []
        for version, a, b in zip(versions, *vectors, strict=True):
            cosine = round(float(np.dot(a, b)), 4)
            pedigree = version.pedigree.and_then(cosine=cosine)
            if self.min_similarity <= cosine <= self.max_similarity:
                left.append(Version(version.one, version.text, pedigree))
            else:
                account.refuse(version.text, "too-far" if cosine < self.min_similarity else "too-close", pedigree)
        return left
