"""Personal data: what has a form and a checksum is found, masked in place, and never repeated in evidence."""

import json

import numpy as np
import polars as pl
import pytest

from methods.filter.pii import Pii, masked_text
from methods.texts.personal import Found, found_in
from schemas.errors import UsageError
from schemas.method import Using
from tests.methods.filter._rows import AWKWARD, pool

CARD = "4111 1111 1111 1111"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("mail me at jane.doe+x@mail.example.museum, please", "email"),
        ("call (415) 555-2671 tomorrow", "phone"),
        ("call +44 20 7946 0958", "phone"),
        (f"card {CARD}.", "credit-card"),
        ("pay to DE89 3704 0044 0532 0130 00 now", "iban"),
        ("host 192.168.10.7 is down", "ip-address"),
        ("host 2001:db8::ff00:42:8329 is down", "ip-address"),
        ("mac 00:1B:44:11:3A:B7 seen", "mac-address"),
        ("ssn 536-90-4399", "us-ssn"),
        ("key AKIAIOSFODNN7EXAMPLE leaked", "secret"),
        ("send to 0x52908400098527886E0F7030069857D2E4169EE7", "crypto-wallet"),
    ],
)
def test_each_kind_is_found_once_and_whole(text: str, kind: str) -> None:
    (hit,) = found_in(text)
    assert hit.kind == kind
    assert text[hit.start : hit.end] not in masked_text(text, [hit])


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # the check digit is wrong
        "version 1.2.3.4.5 and 999.1.1.1",
        "the year 2023-10-11 and 1999-2004",
        "DE89 3704 0044 0532 0130 01",
        "x = 3.14159265358979323846",
        "user@localhost and @handle",
        "12:30:45 and a::b",
        "000-12-3456",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert found_in(text) == []


def test_masking_edits_the_turns_and_rejecting_drops_them() -> None:
    rows = pool(("Who are you?", f"Ann, ann@mail.de, {CARD}"), ("Hi", "Hello"), ("Docs?", "See me@example.com"))
    masked = Pii().judge(rows, using=Using(), rng=np.random.default_rng(0))
    assert masked["fate"].to_list() == ["edit", "keep", "keep"], "example.com is nobody's"
    assert masked["successor"][0][1]["content"] == "Ann, <EMAIL>, <CREDIT_CARD>"
    assert masked["score"].to_list() == [2.0, 0.0, 0.0]
    assert "ann@" not in masked["evidence"][0], "evidence must not carry what was masked"
    assert [hit["kind"] for hit in json.loads(masked["evidence"][0])["found"]] == ["email", "credit-card"]
    dropped = Pii(action="reject").judge(rows, using=Using(), rng=np.random.default_rng(0))
    assert dropped["fate"].to_list() == ["reject", "keep", "keep"]
    assert Pii().audit(rows, masked) == {"personal data by kind": {"credit-card": 1, "email": 1}}


def test_masking_twice_changes_nothing_more() -> None:
    text = f"ann@mail.de and {CARD}"
    once = masked_text(text, found_in(text))
    assert found_in(once) == []


def test_spans_never_overlap_and_long_texts_are_searched_whole() -> None:
    text = "x " * 90_000 + "ann@mail.de " + "y " * 10 + CARD
    assert [hit.kind for hit in found_in(text)] == ["email", "credit-card"]
    assert found_in(text)[0] == Found("email", 180_000, 180_011)


def test_awkward_texts_get_a_verdict() -> None:
    verdicts = Pii().judge(pool(*((t, t) for t in AWKWARD)), using=Using(), rng=np.random.default_rng(0))
    assert verdicts.height == len(AWKWARD)
    assert verdicts.filter(pl.col("fate") == "edit")["successor"].null_count() == 0


def test_a_region_without_telephone_numbers_is_refused_instead_of_finding_none() -> None:
    rows = pool(("Call me", "My number is 020 7946 0018."))
    with pytest.raises(UsageError, match="region: 'UK' has no telephone numbers of its own"):
        Pii(region="UK").judge(rows, using=Using(), rng=np.random.default_rng(0))
    assert Pii(region="GB").judge(rows, using=Using(), rng=np.random.default_rng(0))["fate"].to_list() == ["edit"]
