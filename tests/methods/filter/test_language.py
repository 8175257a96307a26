"""Languages: told by script or identifier, undecided when short, and an answer in another language than asked for."""

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from methods.filter.language import Language
from methods.texts.languages import languages_of
from schemas.errors import UsageError
from schemas.method import Using
from tests.methods.filter._rows import AWKWARD, pool

ENGLISH = "Describe the harbour of a small town in three sentences."
GERMAN = "Der Hafen liegt am Rande der kleinen Stadt und ist sehr alt."


def judged(rows: pl.DataFrame, **settings) -> pl.DataFrame:
    return Language(**settings).judge(rows, using=Using(), rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (ENGLISH, "en"),
        (GERMAN, "de"),
        ("これはペンです", "ja"),
        ("东京是日本的首都", "zh"),
        ("안녕하세요", "ko"),
        ("Привет, как дела? Что ты делаешь сегодня вечером?", "ru"),
        ("42", ""),
        ("Yes", ""),
        ("```python\nfor a in range(10): print(a, 'Der Hafen liegt am Rande')\n```", ""),
    ],
)
def test_scripts_decide_alone_and_short_texts_and_code_are_undecided(text: str, code: str) -> None:
    assert languages_of(pl.Series([text]))[0].code == code


def test_an_answer_in_another_language_goes_unless_the_prompt_asked_for_it() -> None:
    rows = pool((ENGLISH, GERMAN), (f"Translate into German: {ENGLISH}", GERMAN), (ENGLISH, "42"))
    both = judged(rows, allow=("en", "de"))
    assert both["reason"].to_list() == ["answer-in-another-language", None, None]
    only = judged(rows, allow=("en",))
    assert only["reason"].to_list() == ["other-language", "other-language", None]
    assert only["evidence"][0] == '{"answer":"de","prompt":"en"}'
    answers = judged(rows, allow=("de",), of="answer", undecided="drop", same_language=False)
    assert answers["reason"].to_list() == [None, None, "undecided-language"]


def test_awkward_texts_get_a_verdict_and_the_audit_counts_every_answer() -> None:
    rows = pool(*((text, text) for text in AWKWARD))
    verdicts = judged(rows)
    assert verdicts.height == len(AWKWARD)
    audit = Language().audit(rows, verdicts)["answers by language"]
    assert sum(audit.values()) == len(AWKWARD)
    assert audit["ja"] == 1


def test_what_is_no_language_is_refused_instead_of_dropping_everything() -> None:
    with pytest.raises(ValidationError, match="'english' is no language code; codes are written as in en, de or zh"):
        Language(allow=("de", "english"))
    with pytest.raises(UsageError, match="allow: 'xx' is no language that can be told; there are ace"):
        judged(pool((ENGLISH, ENGLISH)), allow=("en", "xx"))
    assert judged(pool((ENGLISH, ENGLISH)), allow=("en", "my", "yue"))["fate"].to_list() == ["keep"]
