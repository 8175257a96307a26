"""Steps, rules, figures and fates in words: one place, so that terminal, report, card and browser say the same."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from schemas.lineage import Manifest, Rule
from storage.questions.views import Money, StepView, Verdict

_QUIET = {"method", "stage", "version", "name", "source", "declared"}


def step_view(manifest: Manifest) -> StepView:
    """The step of a manifest in words."""
    return StepView(
        ref=str(manifest.ref),
        stage=manifest.ref.stage,
        method=method_tag(manifest),
        says=method_words(manifest),
        inputs=tuple((role, str(ref)) for role, ref in manifest.step.inputs),
    )


def method_tag(manifest: Manifest) -> str:
    """The word a recipe writes after ``method:``; a source's name; else the stage."""
    named = manifest.step.method
    return str(named.get("method") or named.get("source") or manifest.ref.stage)


def named(stage: str, says: str) -> str:
    """``filter clear``; the stage alone where the method is called like it, ``publish (max_rows 5)`` not twice."""
    return says if says.split(" ")[0] == stage else f"{stage} {says}"


def method_words(manifest: Manifest, limit: int = 120) -> str:
    """``clear (threshold 0.42, votes 5)``: the tag and its short settings; prompts and nested ones are left out."""
    shown = [f"{key} {setting(value)}" for key, value in manifest.step.method.items() if _worth_saying(key, value)]
    words = method_tag(manifest)
    if shown:
        words += f" ({', '.join(shown)})"
    return words if len(words) <= limit else words[: limit - 1] + "…"


def _worth_saying(key: str, value: Any) -> bool:
    if key in _QUIET or value is None or value == "" or value == [] or value == {}:
        return False
    return len(value if isinstance(value, str) else json.dumps(value, default=str)) <= 40


def setting(value: Any) -> str:
    """A method's field as text: numbers short, nested values as compact JSON of at most 60 characters."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, str | int):
        return str(value)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return text if len(text) <= 60 else text[:59] + "…"


def number(value: float | None, digits: int = 4) -> str:
    """``1234567`` as "1,234,567", ``0.31000`` as "0.31", None as "unknown"."""
    if value is None:
        return "unknown"
    if isinstance(value, int) or (abs(value) >= 1000 and float(value).is_integer()):
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.1f}"
    text = f"{value:.{digits}g}"
    if "e" in text:
        return text
    return text.rstrip("0").rstrip(".") if "." in text else text


def share(part: int, whole: int) -> str:
    """``part`` of ``whole`` as a percentage a person would write; "–" of nothing."""
    if not whole:
        return "–"
    value = 100 * part / whole
    if part and value < 0.1:
        return "<0.1%"
    if part < whole and value > 99.9:
        return ">99.9%"
    return f"{value:.1f}%" if value < 10 else f"{value:.0f}%"


def counted(count: int, noun: str) -> str:
    """``1 row``, ``2,000 rows``."""
    if count == 1:
        return f"1 {noun}"
    plural = noun[:-1] + "ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else noun + "s"
    return f"{count:,} {plural}"


def listed(items: Iterable[str], limit: int = 4) -> str:
    """``a, b and c``; beyond ``limit`` the rest is counted."""
    words = list(items)
    if len(words) > limit:
        return f"{', '.join(words[:limit])} and {len(words) - limit:,} more"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def usd(money: Money) -> str:
    """What calls cost: an amount, "at least …" where some have no price, "unknown" where none has, "nothing called"."""
    if not money.calls:
        return "no model was called"
    if money.usd is not None:
        return f"${money.usd:,.4f}" if money.usd < 1 else f"${money.usd:,.2f}"
    if money.known_usd is not None:
        return f"at least ${money.known_usd:,.4f} ({counted(money.unpriced_calls, 'call')} without a price)"
    return "unknown (no price is known for what was called)"


def amount(money: Money) -> str:
    """The amount alone, as a figure: ``$1.20``, ``≥ $0.0080``, ``unknown``, ``none``."""
    if not money.calls:
        return "none"
    known = money.usd if money.usd is not None else money.known_usd
    if known is None:
        return "unknown"
    told = f"${known:,.4f}" if known < 1 else f"${known:,.2f}"
    return told if money.usd is not None else f"≥ {told}"


def amount_note(money: Money) -> str:
    """What the amount leaves out."""
    if not money.calls:
        return "no model was called"
    notes = [f"{money.scorings:,} scored given texts"] if money.scorings else []
    if money.unpriced_calls:
        notes.append(f"{counted(money.unpriced_calls, 'call')} without a price")
    elif money.cached_calls:
        notes.append(f"{money.cached_calls:,} from the cache")
    return ", ".join(notes)


def when(text: str | None) -> str:
    """An ISO time as ``2026-11-20 10:00 UTC``; "at an unknown time" for None or what is no time."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return "at an unknown time"
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def seconds(value: float | None) -> str:
    """A duration as "40 ms", "0.4 s", "3 min 20 s" or "2 h 5 min"."""
    if value is None:
        return "unknown"
    if value < 0.0995:
        return f"{1000 * value:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: int) -> str:
    """Bytes as "12.3 MiB"."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def verdict_of(fate: int, rule_index: int, score: float | None, evidence: str | None, rules: Sequence[Rule]) -> Verdict:
    """A stored verdict with its rule resolved and its margin worked out.

    The margin is positive on the kept side of the threshold, whatever the direction; scores are stored as float32, so
    margins below 1e-6 of the threshold are 0.
    """
    rule = rules[rule_index - 1] if 0 < rule_index <= len(rules) else None
    if rule is None and fate == 0 and score is not None:
        drawn = [one for one in rules if one.threshold is not None and one.direction != "none"]
        if len(drawn) == 1:  # a kept row names no rule; its score can only belong to the one that has a threshold
            return verdict_of(fate, rules.index(drawn[0]) + 1, score, evidence, rules).model_copy(
                update={"rule": None, "says": ""}
            )
    score = short(score)
    margin = None
    if rule is not None and rule.threshold is not None and score is not None and rule.direction != "none":
        margin = score - rule.threshold if rule.direction == "keep-above" else rule.threshold - score
        margin = 0.0 if abs(margin) <= 1e-6 * max(1.0, abs(rule.threshold)) else short(margin)
    return Verdict(
        fate=("keep", "reject", "edit", "quarantine")[fate],
        rule=rule.name if rule else None,
        says=rule.says if rule else "",
        score=score,
        threshold=rule.threshold if rule else None,
        direction=rule.direction if rule else "none",
        margin=margin,
        evidence=evidence,
    )


def short(value: float | None) -> float | None:
    """A number that was stored in single precision, without the digits it never had."""
    return None if value is None else float(f"{value:.7g}")


def comparison(verdict: Verdict) -> str:
    """``score 0.31 <= threshold 0.42 (margin 0.11)``, or just the score, or nothing."""
    if verdict.score is None:
        return ""
    if verdict.threshold is None or verdict.margin is None:
        return f"score {number(verdict.score)}"
    above = verdict.score > verdict.threshold or (verdict.margin == 0 and verdict.fate == "keep")
    sign = ">=" if above else "<="
    if verdict.margin == 0:
        sign = "="
    digits = 4
    while digits < 7 and verdict.margin and number(verdict.score, digits) == number(verdict.threshold, digits):
        digits += 1  # else a near miss reads as a tie
    return (
        f"score {number(verdict.score, digits)} {sign} threshold {number(verdict.threshold, digits)} "
        f"(margin {number(abs(verdict.margin))})"
    )


def verdict_words(verdict: Verdict, step: StepView) -> str:
    """The fate in a sentence.

    ``Dropped at filter by clear: the confidence is low (low-confidence); score 0.31 <= threshold 0.42 (margin 0.11)``
    """
    done = {"keep": "Kept", "reject": "Dropped", "edit": "Edited", "quarantine": "Quarantined"}[verdict.fate]
    where = f"{done} at {step.stage} by {step.method}"
    why: list[str] = []
    if verdict.rule:
        says = verdict.says.partition("; ")[0]  # what follows is about the whole step
        why.append(f"{says} ({verdict.rule})" if says not in ("", verdict.rule) else verdict.rule)
    if compared := comparison(verdict):
        why.append(compared)
    if verdict.rule and (found := evidence_words(verdict.evidence, named=verdict.margin is not None)):
        why.append(found)
    return f"{where}: {'; '.join(why)}" if why else where


def evidence_words(evidence: str | None, limit: int = 160, *, named: bool = False) -> str:
    """The evidence's plain facts in a line, ``repeats 3fa9…, similarity 0.93``; lists and mappings are left to pages.

    ``named`` leaves out figures too: beside a score and its threshold they say little in a sentence.
    """
    value = parsed(evidence)
    if value is None:
        return ""
    if isinstance(value, Mapping):
        plain = {key: item for key, item in value.items() if item is not None and not isinstance(item, list | Mapping)}
        if named:
            plain = {key: item for key, item in plain.items() if isinstance(item, str)}
        text = ", ".join(f"{key.replace('_', ' ')} {_fact(item)}" for key, item in plain.items())
    else:
        text = _fact(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def parsed(evidence: str | None) -> Any:
    """Evidence as a value; the text itself where it is not JSON; None for none."""
    if not evidence:
        return None
    try:
        return json.loads(evidence)
    except (ValueError, RecursionError):
        return evidence


def _fact(value: Any) -> str:
    if isinstance(value, str):
        short = f"{value[:8]}…" if len(value) == 32 and all(c in "0123456789abcdef" for c in value) else value
        short = short if len(short) <= 60 else short[:59] + "…"
        return f'"{short}"' if " " in short else short
    if isinstance(value, float):
        return number(value)
    return setting(value)


def preview(text: str, limit: int = 100) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text[: limit * 4].split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
