"""Alpaca: batches of whole tasks, instruction, input and output in one reply, from a few seed tasks."""

from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import Reply, Request
from methods.asking.prompted import Prompted
from methods.asking.prompts import question
from methods.asking.sampling import Draw, calls_of, failure_of, is_cut_off, sample
from methods.generate._alpaca_parse import Block, blocks
from methods.generate._bootstrap import nearness, novelty_tokens, refusal_name
from methods.generate._ledger import Ledger, Pedigree
from methods.generate._parse import BLOCKLIST, Bounds, Compat, refusal, sifted
from methods.generate._seeds import Seed, seeds_of
from methods.texts.acceptance import RougeStanding, accept_greedily
from schemas.errors import EmptyStage
from schemas.method import TOKENS_PER_WORD, Expected, Generated, GenerateMethod, Using


class Alpaca(Prompted, GenerateMethod):
    """Grows a pool of tasks from seed tasks as Self-Instruct does, but each reply holds a batch of finished examples.

    Runs in rounds until exactly ``examples`` rows are accepted or ``max_candidates`` were looked at. A candidate is one
    block of a reply, or a reply that could not be used at all. Only seeds are shown; there is no classification
    question, and one instance per instruction. Novelty is that of the instruction, at once, against seeds and accepted.

    Departs from the published code unless ``compat: official``: a block with another number is read; an empty output,
    one that repeats the input, and one that ends with a colon are refused; the reply ends at the number after the last
    only where that begins a line; novelty as for self-instruct. In both, the end of text is not made less likely.

    Paper: Taori et al. 2023, https://github.com/tatsu-lab/stanford_alpaca.
    """

    method: Literal["alpaca"] = "alpaca"
    version: ClassVar[int] = 2
    needs: ClassVar[frozenset[str]] = frozenset({"llm"})
    speaks: ClassVar[tuple[str, ...]] = ("alpaca",)

    examples: int = Field(100, ge=1, description="accepted examples wanted, exactly")
    max_candidates: int | None = Field(None, ge=1, description="candidates looked at, at most; default 20 per example")
    shots: int = Field(3, ge=1, le=16, description="seed tasks in a prompt")
    shot_words: int = Field(300, ge=1, description="longest seed that is shown, in words of task and instance")
    batch: int = Field(20, ge=2, le=100, description="length of the list that is asked for, the shown ones included")
    prompts_per_round: int = Field(5, ge=1, description="batches asked for at once")
    similarity_limit: float = Field(
        0.7, gt=0, le=1, description="ROUGE-L F1 to an earlier instruction at which one is dropped"
    )
    neighbors: int = Field(3, ge=0, le=100, description="nearest earlier instructions recorded with each accepted one")
    mean_similarity: bool = Field(
        False, description="record the mean similarity to all earlier tasks too, as published (slower)"
    )
    above_words: int = Field(3, ge=0, description="instructions of this many words or fewer are dropped")
    at_most_words: int = Field(150, ge=1, description="instructions of more words are dropped")
    blocklist: tuple[str, ...] = Field(
        (*BLOCKLIST, "video", "audio", "music", "flowchart", "diagram"),
        description="whole words that drop an instruction, any case",
    )
    ask_as: Literal["continuation", "chat"] = Field(
        "continuation", description="the prompt as text to go on from, or a user turn"
    )
    draw: Draw = Field(Draw(max_tokens=3072, temperature=1.0), description="how a batch is drawn")
    compat: Compat = Field("fixed", description="official: reproduce the published code's slips")

    def expected_calls(self, rows: int, words: float) -> Expected:
        """At most: every candidate costs its share of a batch."""
        calls = -(-self.candidate_budget // max(1, self.batch - self.shots))
        return Expected(calls, round(calls * (self.shots * words * TOKENS_PER_WORD + 200 + self.draw.max_tokens)))

    def generate(self, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> Generated:
        """Exactly ``examples`` rows, fewer only when the candidates ran out. ``EmptyStage`` without a seed to show."""
        known = seeds_of(seeds)
        showable = [seed for seed in known if seed.instances and seed.n_words <= self.shot_words]
        if not showable:
            raise EmptyStage(
                f"alpaca has no seed task of at most {self.shot_words} words with an answer among {seeds.height} seed "
                "examples; give it a pool of short examples, or raise shot_words"
            )
        standing = RougeStanding(
            novelty_tokens(self.compat),
            self.similarity_limit,
            at_limit_kept=self.compat == "official",
            texts=[seed.instruction for seed in known],
        )
        ledger = Ledger()
        counts = {"rounds": 0, "candidates": 0}
        while len(ledger.created) < self.examples and counts["candidates"] < self.candidate_budget:
            counts["rounds"] += 1
            shown = [self._drawn(showable, rng) for _ in range(self.prompts_per_round)]
            requests = [self.batch_request(tasks, int(rng.integers(2**31))) for tasks in shown]
            for number, (tasks, reply) in enumerate(zip(shown, sample(using.llm, requests), strict=True)):
                evidence = {"round": counts["rounds"], "prompt": number}
                origin = Pedigree(tuple(seed.id for seed in tasks), tuple(calls_of([reply])), evidence)
                self._take(reply, origin, standing, known, ledger, counts)
            note = f"round {counts['rounds']}, {len(ledger.refused)} refused"
            using.progress(len(ledger.created), self.examples, note)
        created, refused = ledger.frames()
        notes: dict[str, Any] = {
            **counts,
            "accepted": created.height,
            "stopped": "target" if created.height >= self.examples else "candidate-budget",
            "refused": ledger.reasons(),
            "seeds_usable": len(known),
            "seeds_shown": len(showable),
        }
        return Generated(created, refused, notes)

    @property
    def candidate_budget(self) -> int:
        """Candidates looked at, at most."""
        return self.max_candidates or 20 * self.examples

    def batch_request(self, tasks: list[Seed], seed: int) -> Request:
        """The prompt that shows these tasks and ends at the number of the next."""
        shown = [(t.instruction, t.instances[0].given, t.instances[0].output) for t in tasks]
        text = self.prompt("alpaca").render(tasks=shown, wanted=self.batch)
        last = self.batch if self.compat == "official" else self.batch + 1
        stops = (*self.draw.stop, f"\n{last}.", *((f"\n{last}", f"{last}.") if self.compat == "official" else ()))
        sampling = self.draw.model_copy(update={"stop": stops}).sampling(seed)
        return Request.ask(text, sampling) if self.ask_as == "chat" else Request(prompt=text, sampling=sampling)

    def _drawn(self, seeds: list[Seed], rng: np.random.Generator) -> list[Seed]:
        places = rng.choice(len(seeds), size=min(self.shots, len(seeds)), replace=False)
        return [seeds[int(i)] for i in places]

    def _take(
        self,
        reply: Reply,
        origin: Pedigree,
        standing: RougeStanding,
        known: list[Seed],
        ledger: Ledger,
        counts: dict[str, int],
    ) -> None:
        """The blocks of one reply, each accepted or refused with its reason."""
        failure = failure_of(reply, complete=False)
        shown = len(origin.parents)
        found = [] if failure else blocks(reply.text, shown, cut_off=is_cut_off(reply), compat=self.compat)
        if not found:
            counts["candidates"] += 1
            ledger.refuse(reply.text, refusal_name(failure or "empty"), origin.and_then(message=reply.message))
        for number, block in enumerate(found):
            pedigree = origin.and_then(item=number)
            if counts["candidates"] >= self.candidate_budget:
                ledger.refuse(block.instruction, "over-candidate-budget", pedigree)
                continue
            counts["candidates"] += 1
            reason = self._refusal(block)
            if reason is None and len(ledger.created) >= self.examples:
                reason = "surplus"
            if reason:
                ledger.refuse(block.instruction, reason, pedigree)
                continue
            (decision,) = accept_greedily(
                [block.instruction], standing, neighbors=self.neighbors, means=self.mean_similarity
            )
            pedigree = pedigree.and_then(**nearness(decision, known))
            if decision.position is None:
                ledger.refuse(block.instruction, "not-novel", pedigree)
            else:
                made = pedigree.and_then(made=decision.position - len(known))
                ledger.accept(question(block.instruction, block.instance.given), block.instance.output, made)

    def _refusal(self, block: Block) -> str | None:
        if block.reason:
            return block.reason
        bounds = Bounds(self.above_words, self.at_most_words, self.blocklist)
        reason = refusal(block.instruction, bounds, self.compat)
        if reason or self.compat == "official":
            return reason
        refused = sifted([block.instance], block.instruction).refused
        return refused[0][1] if refused else None
