"""Certificate: the proof that before and after agree, as data. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from abscise._errors import StoreError
from abscise._json import Fields, check_format, read_fields

FORMAT = 1

_PLANTED = ("largest", "smallest", "slices")
_CERTIFICATE = (
    "format",
    "passed",
    "inconclusive",
    "reason",
    "max_abs_diff",
    "max_rel_diff",
    "float64_rel_diff",
    "dtype",
    "tolerance",
    "tolerance_from",
    "spread",
    "shapes",
    "inputs",
    "planted_error",
    "predictions_equal",
    "versions",
)


@dataclass(frozen=True, slots=True)
class PlantedError:
    """What the outputs do when a live slice of the compacted model is wrongly zeroed.

    Args:
        largest: Largest error over the planted slices, in the units of `Certificate.max_rel_diff`.
        smallest: Smallest one. It must exceed the tolerance 100-fold.
        slices: Where it was planted, e.g. `conv1.weight[3]`.
    """

    largest: float
    smallest: float
    slices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Certificate:
    """What `verify` found. Numbers are None where the outputs could not be compared.

    Args:
        passed: The outputs agree, and this certificate was able to fail.
        inconclusive: The outputs agree, but a wrong removal might not have been seen.
        reason: One sentence that says why it passed or did not.
        max_abs_diff: Largest difference of an output element.
        max_rel_diff: The same, divided by the spread of the dense outputs over the inputs.
        float64_rel_diff: `max_rel_diff` of float64 copies of both models, where that can be run.
        dtype: What was compared, e.g. `float32`.
        tolerance: What `max_rel_diff` may be at most.
        tolerance_from: Where the tolerance comes from.
        spread: Smallest spread of an output tensor, divided by the size of its values.
        shapes: Of the input tensors, in call order.
        inputs: What the models were run on.
        planted_error: How well wrong removals are seen.
        predictions_equal: Whether argmax over dimension 1 agrees for every sample; None if there is
            no output for which it is meant.
        versions: Package -> version.
    """

    passed: bool
    inconclusive: bool
    reason: str
    dtype: str
    shapes: tuple[tuple[int, ...], ...]
    inputs: str
    versions: Mapping[str, str]
    max_abs_diff: float | None = None
    max_rel_diff: float | None = None
    float64_rel_diff: float | None = None
    tolerance: float | None = None
    tolerance_from: str = ""
    spread: float | None = None
    planted_error: PlantedError | None = None
    predictions_equal: bool | None = None

    def __post_init__(self) -> None:
        if self.passed and self.inconclusive:
            message = "a certificate is passed or inconclusive, not both"
            raise ValueError(message)
        if self.passed and None in (self.max_rel_diff, self.tolerance, self.planted_error):
            message = "a passed certificate holds max_rel_diff, tolerance and planted_error"
            raise ValueError(message)

    def to_json(self) -> dict[str, object]:
        """This certificate as dicts, lists and numbers that `json.dumps` writes."""
        planted = self.planted_error
        return {
            "format": FORMAT,
            "passed": self.passed,
            "inconclusive": self.inconclusive,
            "reason": self.reason,
            "max_abs_diff": self.max_abs_diff,
            "max_rel_diff": self.max_rel_diff,
            "float64_rel_diff": self.float64_rel_diff,
            "dtype": self.dtype,
            "tolerance": self.tolerance,
            "tolerance_from": self.tolerance_from,
            "spread": self.spread,
            "shapes": [list(shape) for shape in self.shapes],
            "inputs": self.inputs,
            "planted_error": None
            if planted is None
            else {
                "largest": planted.largest,
                "smallest": planted.smallest,
                "slices": list(planted.slices),
            },
            "predictions_equal": self.predictions_equal,
            "versions": dict(self.versions),
        }

    @classmethod
    def from_json(cls, value: object) -> "Certificate":
        """The certificate that `value` describes.

        Raises:
            StoreError: A field is missing, unknown, of the wrong type, out of range, or
                contradicts another; the text names the field.
        """
        check_format(value, FORMAT, "certificate", "verify again", StoreError)
        fields = read_fields(value, _CERTIFICATE, "certificate", StoreError)
        _ = fields.integer("format", FORMAT, FORMAT)
        _check_claim(fields)
        return cls(
            passed=fields.boolean("passed"),
            inconclusive=fields.boolean("inconclusive"),
            reason=fields.text("reason"),
            max_abs_diff=fields.optional("max_abs_diff", fields.number),
            max_rel_diff=fields.optional("max_rel_diff", fields.number),
            float64_rel_diff=fields.optional("float64_rel_diff", fields.number),
            dtype=fields.text("dtype"),
            tolerance=fields.optional("tolerance", fields.number),
            tolerance_from=fields.text("tolerance_from"),
            spread=fields.optional("spread", fields.number),
            shapes=_shapes(fields),
            inputs=fields.text("inputs"),
            planted_error=fields.optional("planted_error", lambda name: _planted(fields, name)),
            predictions_equal=fields.optional("predictions_equal", fields.boolean),
            versions=_versions(fields),
        )


def _check_claim(fields: Fields) -> None:
    """A file that claims more than its own numbers show was edited."""
    if not fields.boolean("passed"):
        return
    if fields.boolean("inconclusive"):
        fields.refuse("inconclusive", "false when passed is true")
    needed = ("max_abs_diff", "max_rel_diff", "tolerance", "spread", "planted_error")
    for name in needed:
        if fields.values[name] is None:
            fields.refuse(name, "given when passed is true")
    if fields.number("max_rel_diff") > fields.number("tolerance"):
        fields.refuse("max_rel_diff", "at most the tolerance when passed is true")


def _shapes(fields: Fields) -> tuple[tuple[int, ...], ...]:
    return tuple(
        Fields({"shapes": item}, fields.where, fields.error).integers("shapes")
        for item in fields.items("shapes")
    )


def _planted(fields: Fields, name: str) -> PlantedError:
    inner = read_fields(fields.values[name], _PLANTED, f"{fields.where}: {name}", fields.error)
    largest, smallest = inner.number("largest"), inner.number("smallest")
    if smallest > largest:
        inner.refuse("smallest", "at most the largest")
    return PlantedError(largest, smallest, inner.texts("slices"))


def _versions(fields: Fields) -> Mapping[str, str]:
    found = fields.mapping("versions")
    inner = Fields(found, f"{fields.where}: versions", fields.error)
    return {package: inner.text(package) for package in found}
