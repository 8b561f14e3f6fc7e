"""Certificate: written and read back; a file that was edited is refused."""

import json
from typing import Any

import pytest

from abscise._certificate import Certificate, PlantedError
from abscise._errors import StoreError


def passed() -> Certificate:
    return Certificate(
        passed=True,
        inconclusive=False,
        reason="the outputs agree",
        dtype="float32",
        shapes=((2, 3, 8, 8), ()),
        inputs="random, seed 0",
        versions={"torch": "2.13.0"},
        max_abs_diff=1e-7,
        max_rel_diff=2e-7,
        float64_rel_diff=1e-15,
        tolerance=1e-5,
        tolerance_from="float32",
        spread=0.5,
        planted_error=PlantedError(3.0, 0.1, ("conv1.weight[0]",)),
        predictions_equal=True,
    )


def failed() -> Certificate:
    return Certificate(
        passed=False,
        inconclusive=False,
        reason="output is missing",
        dtype="float32",
        shapes=(),
        inputs="",
        versions={},
    )


@pytest.mark.parametrize("certificate", [passed(), failed()])
def test_reading_what_was_written_gives_the_same(certificate: Certificate) -> None:
    assert Certificate.from_json(json.loads(json.dumps(certificate.to_json()))) == certificate


EDITS: list[tuple[str, Any, str]] = [
    ("format", 2, "format must be 1, got 2"),
    ("format", True, "format must be an integer"),
    ("passed", 1, "passed must be true or false"),
    ("inconclusive", True, "inconclusive must be false when passed is true"),
    ("reason", "a\x1b[31m", "reason must be a text without control characters"),
    ("reason", "a" * 100_000, "reason must be a text of at most"),
    ("max_rel_diff", 1.0, "max_rel_diff must be at most the tolerance"),
    ("max_rel_diff", -1.0, "max_rel_diff must be a finite number >= 0"),
    ("max_rel_diff", 10**400, "max_rel_diff must be a finite number >= 0"),
    ("max_rel_diff", "0", "max_rel_diff must be a number"),
    ("max_rel_diff", None, "max_rel_diff must be given when passed is true"),
    ("tolerance", float("nan"), "tolerance must be a finite number"),
    ("tolerance", float("inf"), "tolerance must be a finite number"),
    ("tolerance", True, "tolerance must be a number"),
    ("spread", None, "spread must be given"),
    ("shapes", [[-1]], "shapes must be an integer from 0"),
    ("shapes", [1], "shapes must be a list"),
    ("shapes", [[2**70]], "shapes must be an integer"),
    ("planted_error", None, "planted_error must be given"),
    ("planted_error", [], "planted_error: must be an object"),
    ("planted_error", {"largest": 1}, "missing fields"),
    ("planted_error", {"largest": 1, "smallest": 2, "slices": []}, "smallest must be at most"),
    ("planted_error", {"largest": 1, "smallest": 0, "slices": [1]}, "slices must be a text"),
    ("predictions_equal", "yes", "predictions_equal must be true or false"),
    ("versions", [], "versions must be an object"),
    ("versions", {"torch": 2}, "torch must be a text"),
]


@pytest.mark.parametrize(("field", "value", "message"), EDITS)
def test_an_edited_certificate_is_refused(field: str, value: Any, message: str) -> None:
    edited = passed().to_json() | {field: value}
    with pytest.raises(StoreError, match=r"^certificate") as error:
        _ = Certificate.from_json(edited)
    assert message in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, {"format": 1, "other": 2}])
def test_what_is_no_certificate_is_refused(value: Any) -> None:
    with pytest.raises(StoreError, match=r"^certificate: "):
        _ = Certificate.from_json(value)


def test_a_certificate_cannot_claim_two_things() -> None:
    with pytest.raises(ValueError, match="not both"):
        _ = Certificate(
            passed=True,
            inconclusive=True,
            reason="",
            dtype="",
            shapes=(),
            inputs="",
            versions={},
        )
    with pytest.raises(ValueError, match="a passed certificate holds"):
        _ = Certificate(
            passed=True,
            inconclusive=False,
            reason="",
            dtype="",
            shapes=(),
            inputs="",
            versions={},
        )
