"""One request to its end: what it has cost over all attempts, whether its reply is taken, and what is asked next."""

from dataclasses import dataclass, field, replace

from backends.llm._accept import accepted, repaired
from backends.llm._openai_wire import Outcome
from backends.protocols import Reply, Request


@dataclass
class Row:
    """``current`` is what is to be sent: the request, or its mended form after a reply of the wrong shape."""

    request: Request
    accept_cut_off: bool
    repairs: int
    current: Request = field(init=False)
    reply: Reply = field(default_factory=Reply)
    mendings: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    unpriced: bool = False

    def __post_init__(self) -> None:
        self.current = self.request

    def take(self, outcome: Outcome, sent: int) -> bool:
        """Book what came of ``current``; whether its mended form should be asked."""
        self.attempts += sent
        if self.mendings and outcome.reply.failure == "over-budget":
            return False  # the reply of the wrong shape stands
        self.reply = outcome.reply
        if outcome.kind == "reply":
            self.reply = accepted(outcome.reply, self.request, accept_cut_off=self.accept_cut_off)
        self.prompt_tokens += outcome.reply.prompt_tokens
        self.completion_tokens += outcome.reply.completion_tokens
        if outcome.reply.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + outcome.reply.cost_usd
        elif outcome.kind == "reply":
            self.unpriced = True
        if outcome.kind != "reply" or self.mendings == self.repairs:
            return False
        mended = repaired(self.request, self.reply, self.mendings, repeatable=False)
        if mended is None:
            return False
        self.current, self.mendings = mended, self.mendings + 1
        return True

    def final(self) -> Reply:
        """The reply with the tokens, money and attempts of all that was sent for it; a sum with an unknown is unknown."""
        return replace(
            self.reply,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost_usd=None if self.unpriced else self.cost_usd,
            attempts=max(1, self.attempts),
        )
