"""Licences: every part of a joined statement counts, the teacher's terms among them."""

import numpy as np
import pytest

from methods.filter.license import License
from schemas.method import Using
from tests.methods.filter._rows import pool


@pytest.mark.parametrize(
    ("settings", "reasons"),
    [
        ({}, [None, "non-commercial-license", None, None, None]),
        ({"commercial": False, "unknown": "drop"}, [None, None, None, None, "unknown-license"]),
        ({"teacher_terms": "drop"}, [None, "non-commercial-license", "teacher-terms", None, None]),
        ({"deny": ("cc-by-4.0",)}, [None, "non-commercial-license", None, "license-not-allowed", None]),
        (
            {"allow": ("MIT",), "commercial": False},
            [None, "license-not-allowed", "license-not-allowed", "license-not-allowed", None],
        ),
    ],
)
def test_a_row_goes_if_any_of_its_licences_forbids_the_use(settings, reasons) -> None:
    licenses = ["MIT", "CC-BY-NC-4.0", "MIT AND LicenseRef-OpenAI-terms", "MIT AND CC-BY-4.0", None]
    rows = pool(*[("q", "a")] * 5, license=licenses)
    verdicts = License(**settings).judge(rows, using=Using(), rng=np.random.default_rng(0))
    assert verdicts["reason"].to_list() == reasons
