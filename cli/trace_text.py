"""The story of one example in a terminal: the answer first, then its text, origin, way, edits and relatives."""

from collections.abc import Mapping, Sequence

from cli.plain import block, line
from cli.row_losses import example_losses
from storage.questions.views import Trace, TurnView, Verdict
from storage.questions.words import evidence_words, number


def trace_text(found: Trace) -> str:
    """``provender trace``: the answer first, then its evidence."""
    example = found.example
    told = [line(found.sentence), ""]
    licence = example.license or "licence unknown"
    told.append(
        f"example {example.id}  from {line(example.source)}, {line(licence)}, synthetic depth {example.synthetic_depth}"
    )
    told += [turn_text(turn) for turn in example.messages]
    if example.worse:
        told += ["  instead of:", *(turn_text(turn) for turn in example.worse)]
    told += ["", _origin_text(found)]
    told += ["", f"its way{f' to {found.tag}' if found.tag else ''}:"]
    for hop in found.hops:
        told.append(f"  {hop.step.ref:<32} {line(hop.sentence)}")
        if hop.verdict and hop.verdict.margin is not None:
            told.append(f"  {'':<32} {gauge(hop.verdict)}")
        if hop.scores and len(hop.scores) > 1:
            told.append(f"  {'':<32} " + ", ".join(f"{line(k)} {number(v)}" for k, v in hop.scores.items()))
    for edit in found.edits:
        told += ["", f"edited at {edit.step.ref}: {line(edit.reason)}", *_edit_lines(edit.old, edit.new)]
    if found.ancestors:
        told += ["", "made from:"]
        told += [
            f"  {'  ' * (one.steps - 1)}{one.id[:12]} {line(one.source)}: {line(one.preview)}"
            for one in found.ancestors
        ]
    if found.descendants:
        told += ["", f"made from it ({len(found.descendants) + found.more_descendants:,}):"]
        told += [f"  {one.id[:12]} {line(one.home)}: {line(one.preview)}" for one in found.descendants[:12]]
    told += [
        "",
        "published in: " + (", ".join(_where(o.tag, o.positions, o.count) for o in found.occurrences) or "nothing"),
    ]
    told += [f"trained by {step.ref}" for step in found.trained]
    told += example_losses(found.losses)
    if found.also_in:
        told.append(f"also in the lineage of: {', '.join(map(line, found.also_in))}")
    return "\n".join(told)


def gauge(verdict: Verdict, half: int = 12) -> str:
    """Where a score lies beside its threshold, to scale: ``│`` the threshold, ``●`` the score, ``━`` the kept side."""
    score, threshold = verdict.score or 0.0, verdict.threshold or 0.0
    reach = max(abs(score - threshold), abs(threshold) * 0.5, 1e-9) * 1.15
    kept, other = "━" * half, "┄" * half
    track = list(f"{kept}│{other}" if verdict.direction == "keep-below" else f"{other}│{kept}")
    at = half + round((score - threshold) / reach * half)
    if at == half and verdict.margin:
        at += 1 if score > threshold else -1
    track[min(max(at, 0), 2 * half)] = "●"
    return "".join(track)


def _where(tag: str, positions: Sequence[int], count: int) -> str:
    shown = ", ".join(f"{position + 1:,}" for position in positions[:3])
    return f"{line(tag)} (position {shown}{' …' if count > 3 else ''})"


def turn_text(turn: TurnView) -> str:
    """A turn with its role."""
    return f"  {line(turn.role)}:\n{block(turn.content, '    ', most=24)}"


def _origin_text(found: Trace) -> str:
    origin = found.creation
    if origin.how == "ingested":
        at = f", line {origin.line:,}" if origin.line is not None else ""
        told = f"entered from source {line(origin.source)} at {origin.step.ref}{at}"
        if origin.file:
            told += f"\n  example {origin.number or 0:,} of {line(origin.file)}"
        return told + (f", content {origin.digest[:12]}" if origin.file and origin.digest else "")
    told = [f"{origin.how} at {origin.step.ref} by {line(origin.step.says)}"]
    if origin.file:
        told.append(f"  before that example {origin.number or 0:,} of {line(origin.file)}")
    told += [f"  from {one.id[:12]} ({line(one.source)}): {line(one.preview)}" for one in origin.parents]
    if origin.evidence:
        told.append(f"  {line(evidence_words(origin.evidence))}")
    for call in origin.calls:
        cost = "cost unknown" if call.cost_usd is None else f"${call.cost_usd:.4f}"
        tokens = f"{number(call.prompt_tokens)} + {number(call.completion_tokens)} tokens"
        what = "scored" if call.kind == "score" else "call"
        at = f"{what} {call.key[:12]} {'by' if call.kind == 'score' else 'to'} {line(call.model)}"
        told.append(f"  {at}: {tokens}, {cost}{', from the cache' if call.cached else ''}")
        for message in call.request.get("messages") or ():
            if isinstance(message, Mapping):
                told.append(
                    f"    {line(str(message.get('role', '')))}:\n{block(str(message.get('content', '')), '      ', most=16)}"
                )
        if call.request.get("prompt"):
            told.append(block(str(call.request["prompt"]), "      ", most=16))
        if call.kind != "score":
            told.append(f"    reply:\n{block(call.reply, '      ', most=12)}")
    if origin.siblings:
        told.append("  the same calls also wrote: " + ", ".join(one.id[:12] for one in origin.siblings[:6]))
    told += [f"  refused beside it, {line(one.reason)}: {line(one.text)[:90]}" for one in origin.refused[:6]]
    return "\n".join(told)


def _edit_lines(old: Sequence[TurnView], new: Sequence[TurnView]) -> list[str]:
    """Old and new lines of the turns that differ."""
    told: list[str] = []
    for i in range(max(len(old), len(new))):
        a, b = old[i].content if i < len(old) else "", new[i].content if i < len(new) else ""
        if a != b:
            told += [block(a, "  - ", most=12), block(b, "  + ", most=12)]
    return told
