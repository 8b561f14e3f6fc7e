"""Verify: run dense and compacted model on the same inputs and say what that proves.

Differences are divided by the spread of the dense outputs over the inputs, and every certificate
shows that it can fail: live slices of the compacted model are wrongly zeroed and must be seen.
"""

import contextlib
import importlib.metadata
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from abscise._certificate import Certificate, PlantedError
from abscise._errors import InputError
from abscise._inputs import ExampleInputs, Inputs, as_inputs
from abscise.proof import (
    Leaves,
    Runs,
    Yardstick,
    eval_copy,
    first_integer_difference,
    first_mismatch,
    first_not_finite,
    float64_copy,
    float64_inputs,
    largest_difference,
    lowest_dtype,
    plant_errors,
    predictions_equal,
    quiet,
    rounded_outputs,
    run_model,
    sample_runs,
    yardstick,
)

_BLIND_SPREAD = 1e-3
_EXACT = 1e-10
_ROUNDING_FACTOR = 20.0
_PLANTED_FACTOR = 100.0
# Runs that are repeated in float64 and with planted errors; the outputs are compared on all.
_CLOSE_RUNS = 2


def verify(
    dense: nn.Module,
    compacted: nn.Module,
    inputs: ExampleInputs,
    *,
    tolerance: float | None = None,
    seed: int = 0,
) -> Certificate:
    """Compare the outputs of two models in eval mode.

    Both models are copied before anything runs, so mode, buffers, gradients and hooks stay as they
    are; random states are restored. Where the inputs alone show no spread (one sample), draws of
    the same shape join them.

    Args:
        dense: The model before.
        compacted: The model after.
        inputs: As `abscise.compact` takes them; the more samples, the more is proved.
        tolerance: What `max_rel_diff` may be at most. Left out, it is 1e-10 for float64, and for
            other dtypes 20 times the dense model's own difference to its float64 copy.
        seed: Of the draws.

    Raises:
        ValueError: `tolerance` is negative or not finite.
        InputError: The dense model does not run on `inputs`.
        ModelError: A model cannot be copied, or its outputs cannot be compared.
    """
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance >= 0):
        message = f"tolerance must be a finite number >= 0, got {tolerance}"
        raise ValueError(message)
    given = as_inputs(inputs)
    with quiet():
        before, after = eval_copy(dense), eval_copy(compacted)
        runs = _run_dense(before, given, seed)
        draft = Certificate(
            passed=False,
            inconclusive=False,
            reason="",
            dtype=_text(runs.dtype),
            shapes=tuple(tuple(tensor.shape) for tensor in given.tensors()),
            inputs=runs.description,
            versions=_versions(),
        )
        place = first_not_finite(runs.outputs)
        if place is not None:
            return replace(draft, reason=f"output{place} of the dense model is not finite")
        found = _run_compacted(after, runs)
        if isinstance(found, str):
            return replace(draft, reason=found)
        reference = _reference(before, runs, tolerance)
        return _judge(draft, runs, reference, after, found)


@dataclass(frozen=True, slots=True)
class _Reference:
    """What the dense model says about itself before anything is compared.

    `rounding` is its own rounding error; `outputs64` are None where a float64 copy does not run or
    is no more exact, because the graph itself casts down.
    """

    yard: Yardstick
    tolerance: float
    tolerance_from: str
    rounding: float
    outputs64: tuple[Leaves, ...] | None


def _run_dense(before: nn.Module, given: Inputs, seed: int) -> Runs:
    try:
        return sample_runs(before, given, seed, _BLIND_SPREAD)
    except Exception as error:
        shapes = [tuple(tensor.shape) for tensor in given.tensors()]
        message = (
            f"the dense model {type(before).__name__} cannot be run and compared on inputs of "
            f"shapes {shapes}: {_first_line(error)}"
        )
        raise InputError(message) from error


def _run_compacted(after: nn.Module, runs: Runs) -> tuple[Leaves, ...] | str:
    """Its outputs, or why they cannot be compared."""
    try:
        found = tuple(run_model(after, item) for item in runs.inputs)
    except Exception as error:  # noqa: BLE001 - whatever a wrongly cut model raises is a verdict
        return f"the compacted model does not run: {_first_line(error)}"
    for expected, leaves in zip(runs.outputs, found, strict=True):
        mismatch = first_mismatch(expected, leaves)
        if mismatch is not None:
            return mismatch
    place = first_not_finite(found)
    return found if place is None else f"output{place} of the compacted model is not finite"


def _reference(before: nn.Module, runs: Runs, tolerance: float | None) -> _Reference:
    """Yardstick, tolerance and float64 outputs, all from the dense model alone."""
    yard = yardstick([*runs.outputs, *runs.spread_only], _BLIND_SPREAD)
    lowest = lowest_dtype((runs.dtype, *runs.inner_dtypes))
    outputs64: tuple[Leaves, ...] | None = None
    sources: list[str] = []
    rounding = 0.0
    if runs.dtype != torch.float64:
        try:
            outputs64 = _float64_outputs(float64_copy(before), runs)
            own = runs.outputs[:_CLOSE_RUNS]
            rounding = largest_difference(own, outputs64, yard).relative
            sources.append(f"its difference between {_text(runs.dtype)} and float64")
        except (RuntimeError, TypeError, ValueError) as error:
            outputs64 = None
            sources.append(f"its rounding, as no float64 copy runs ({_first_line(error)})")
    if lowest != runs.dtype or (runs.dtype != torch.float64 and outputs64 is None):
        own = runs.outputs[:_CLOSE_RUNS]
        noisy = rounded_outputs(before, runs.inputs[:_CLOSE_RUNS], lowest)
        rounding = max(rounding, largest_difference(own, noisy, yard).relative)
        sources.append(f"the effect of {_text(lowest)} noise on its weights and inputs")
        outputs64 = None
    if tolerance is not None:
        return _Reference(yard, tolerance, "given", rounding, outputs64)
    source = f"20 x the dense model's own error: {' and '.join(sources)}" if sources else "float64"
    return _Reference(yard, max(_EXACT, _ROUNDING_FACTOR * rounding), source, rounding, outputs64)


def _float64_outputs(model64: nn.Module, runs: Runs) -> tuple[Leaves, ...]:
    outputs = tuple(run_model(model64, float64_inputs(item)) for item in runs.inputs[:_CLOSE_RUNS])
    place = first_not_finite(outputs)
    if place is not None:
        message = f"output{place} is not finite there"
        raise ValueError(message)
    return outputs


def _judge(
    draft: Certificate,
    runs: Runs,
    reference: _Reference,
    after: nn.Module,
    found: tuple[Leaves, ...],
) -> Certificate:
    difference = largest_difference(runs.outputs, found, reference.yard)
    witness, relative64 = _witness(runs, reference, after, found)
    measured = replace(
        draft,
        max_abs_diff=difference.absolute,
        max_rel_diff=difference.relative,
        float64_rel_diff=difference.relative if runs.dtype == torch.float64 else relative64,
        tolerance=reference.tolerance,
        tolerance_from=reference.tolerance_from,
        spread=reference.yard.spread,
        predictions_equal=predictions_equal(runs.outputs[0], found[0]),
    )
    place = first_integer_difference(runs.outputs, found)
    if place is not None:
        return replace(measured, reason=f"integer output{place} differs")
    if difference.relative > reference.tolerance:
        reason = (
            f"the outputs differ by {difference.relative:.2g} of their spread, "
            f"more than the tolerance of {reference.tolerance:.2g}"
        )
        return replace(measured, reason=reason)
    planted = plant_errors(witness.model, witness.inputs, witness.outputs, reference.yard)
    return _verdict(replace(measured, planted_error=planted), reference)


@dataclass(frozen=True, slots=True)
class _Witness:
    """The compacted model that planted errors are put into, and its outputs without them."""

    model: nn.Module
    inputs: tuple[Inputs, ...]
    outputs: tuple[Leaves, ...]


def _witness(
    runs: Runs, reference: _Reference, after: nn.Module, found: tuple[Leaves, ...]
) -> tuple[_Witness, float | None]:
    """A float64 copy where it runs, as nothing drowns in rounding there; else the model itself."""
    inputs = runs.inputs[:_CLOSE_RUNS]
    if reference.outputs64 is not None:
        with contextlib.suppress(RuntimeError, TypeError, ValueError):
            copied = float64_copy(after)
            outputs = _float64_outputs(copied, runs)
            gap = largest_difference(reference.outputs64, outputs, reference.yard)
            return _Witness(copied, tuple(map(float64_inputs, inputs)), outputs), gap.relative
    return _Witness(after, inputs, found[:_CLOSE_RUNS]), None


def _verdict(measured: Certificate, reference: _Reference) -> Certificate:
    """The outputs agree: inconclusive or passed."""
    difference, planted = measured.max_rel_diff or 0.0, measured.planted_error
    doubt = _doubt(measured, reference)
    if doubt is not None:
        return replace(measured, inconclusive=True, reason=doubt)
    smallest = planted.smallest if planted is not None else 0.0
    exact = measured.float64_rel_diff
    copies = f", in float64 by {exact:.2g}" if exact is not None else ""
    reason = (
        f"the outputs differ by {difference:.2g} of their spread{copies} (tolerance "
        f"{reference.tolerance:.2g}); wrongly zeroed units are seen with at least {smallest:.2g}"
    )
    return replace(measured, passed=True, reason=reason)


def _doubt(measured: Certificate, reference: _Reference) -> str | None:
    """Why a wrong removal might not have been seen; None where it would have been."""
    yard, planted = reference.yard, measured.planted_error
    if not yard.divisors:
        return "the model returns no tensor with elements"
    if yard.blind:
        return (
            f"output{yard.blind[0]} hardly depends on the inputs (spread {yard.spread:.2g} of its "
            f"size, at least {_BLIND_SPREAD:g} is needed): give trained weights or other inputs"
        )
    if planted is None:
        return "zeroing units changes nothing on these inputs: give more inputs"
    return _blunt(measured, planted, reference)


def _blunt(measured: Certificate, planted: PlantedError, reference: _Reference) -> str | None:
    """Whether planted errors are too small beside what the comparison lets pass."""
    bounds = [reference.tolerance]
    if measured.float64_rel_diff is not None:
        # Copies in float64 have no rounding of their own: they may be held to a tighter bound.
        tighter = (_EXACT, reference.rounding)
        bounds += [bound for bound in tighter if measured.float64_rel_diff <= bound]
    if planted.smallest > _PLANTED_FACTOR * min(bounds):
        return None
    return (
        f"wrongly zeroing a unit ({', '.join(planted.slices)}) changes the outputs by as little as "
        f"{planted.smallest:.2g}, not {_PLANTED_FACTOR:g} times the tolerance of "
        f"{reference.tolerance:.2g}: verify in float32 or float64"
    )


def _versions() -> Mapping[str, str]:
    try:
        own = importlib.metadata.version("abscise")
    except importlib.metadata.PackageNotFoundError:
        own = "not installed"
    return {"abscise": own, "torch": torch.__version__, "python": platform.python_version()}


def _text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0][:300] if lines else type(error).__name__
    return "".join(character if character.isprintable() else " " for character in text)
