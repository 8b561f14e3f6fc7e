"""Options as frozen dataclasses, and how each field becomes one typed argument of a parser.

The text beside a field's type is its help; a field without a default is a positional argument.
"""

import dataclasses
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

MAY_LEAD = "may stand without a name, and may be left out"

SPARSE = "Save zeros that form no units in few bytes; abscise reads that, other programs do not."

Factory = Annotated[str, "Factory of the model, as package.module:function."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """A model by its factory, with weights and inputs."""

    model: Factory = ""
    model_args: Annotated[dict[str, Any], "The factory's keyword arguments, as JSON."] = field(
        default_factory=dict
    )
    checkpoint: Annotated[
        Path | None, "State dict (.safetensors, .pt), or a folder saved by abscise."
    ] = None
    key: Annotated[str | None, "Where in the checkpoint the state dict is, e.g. 'model'."] = None
    input: Annotated[
        tuple[str, ...], "Shape of a random input, e.g. 1x3x224x224 or 1x16:int64. Repeatable."
    ] = ()
    inputs: Annotated[
        Path | None,
        "Inputs as .safetensors: tensors named 0, 1, ... are positional, others keyword arguments.",
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectOptions(ModelOptions):
    """Options of `abscise inspect`."""

    data: Annotated[Path | None, "Inputs as .safetensors on which activations are read."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactOptions(ModelOptions):
    """Options of `abscise compact`."""

    snap: Annotated[
        PositiveFloat | None, "First set units below this to exactly zero, e.g. 1e-3."
    ] = None
    keep: Annotated[tuple[str, ...], "Name pattern of what must not be touched. Repeatable."] = ()
    plan: Annotated[Path | None, "Apply this plan.json instead of proposing one."] = None
    plan_only: Annotated[bool, "Print the plan, write it to --out, and remove nothing."] = False
    out: Annotated[Path | None, "Folder to save to (with --plan-only: the plan's file)."] = None
    sparse: Annotated[bool, SPARSE] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions(ModelOptions):
    """Options of `abscise verify`."""

    folder: Annotated[Path, "The saved folder to compare with the dense model."]
    snap: Annotated[PositiveFloat | None, "Snap the dense model first, as compact did."] = None
    tolerance: Annotated[
        PositiveFloat | None, "Largest difference allowed, in spreads of the outputs."
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainOptions(ModelOptions):
    """Options of `abscise explain`."""

    model: Factory
    layer: Annotated[str, "Qualified name of the layer that computes the unit."]
    index: Annotated[NonNegativeInt, "Index of the unit in that layer."]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorOptions(ModelOptions):
    """Options of `abscise doctor`."""

    recipe: Annotated[str, "A recipe; without one, --model, --input and --optimizer.", MAY_LEAD] = (
        ""
    )
    control: Annotated[str | None, "Apply a control's changes to the recipe, e.g. adamw."] = None
    set: Annotated[tuple[str, ...], "Change one setting of the recipe. Repeatable."] = ()
    data_root: Annotated[
        Path | None, "Folder of the data sets (default: $ABSCISE_DATA, then the hub)."
    ] = None
    probe: Annotated[
        NonNegativeInt, "Batches of the recipe's data to measure gradients on; 0 reads no data."
    ] = 8
    optimizer: Annotated[str | None, "Of torch.optim, e.g. adam."] = None
    learning_rate: Annotated[PositiveFloat | None, "The optimizer's lr."] = None
    weight_decay: Annotated[NonNegativeFloat | None, "As the optimizer means it."] = None
    option: Annotated[
        tuple[str, ...], "Another argument of the optimizer, e.g. amsgrad=true. Repeatable."
    ] = ()
    schedule: Annotated[
        Literal["cosine", "linear"] | None, "How the learning rate falls to 0 over --steps."
    ] = None
    warmup: Annotated[NonNegativeInt, "Steps in which the learning rate first rises from 0."] = 0
    steps: Annotated[PositiveInt | None, "Optimizer steps of the whole run."] = None
    batch_size: Annotated[PositiveInt | None, "Examples per step."] = None
    gradient_rms: Annotated[
        NonNegativeFloat | None, "Size of a single weight's gradients, e.g. 1e-3."
    ] = None
    threshold: Annotated[PositiveFloat, "Below it a weight counts as dead."] = 1e-3
    format: Annotated[Literal["text", "json"], "How to print it."] = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """Options of `abscise report`."""

    folder: Annotated[Path, "A folder saved by compact, train or demo."]
    tracker: Annotated[
        Path | None, "A tracker's .jsonl file, whose pictures the report is to show."
    ] = None
    out: Annotated[
        Path | None, "File to write (default: report.html in the folder; others are printed)."
    ] = None
    format: Annotated[Literal["html", "json", "text"], "What to make of it."] = "html"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """Options of `abscise demo`."""

    seed: Annotated[NonNegativeInt, "Seed of the weights and of the data's order."] = 0
    out: Annotated[Path, "Folder to save the compacted model to."] = Path("abscise-demo")
    control: Annotated[
        Literal["adamw"] | None, "Train with another optimizer, to see that next to nothing dies."
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Options of `abscise train`."""

    recipe: Annotated[str, "A recipe's YAML file, or the name of a built-in one."]
    control: Annotated[str | None, "Apply a control's changes to the recipe, e.g. adamw."] = None
    set: Annotated[tuple[str, ...], "Change one setting, e.g. seed=1. Repeatable."] = ()
    out: Annotated[
        Path | None, "Folder to save the compacted model to; beside it, FOLDER.training."
    ] = None
    sparse: Annotated[bool, SPARSE] = False
    resume: Annotated[bool, "Go on with the interrupted run in OUT.training."] = False
    checkpoint_every: Annotated[
        PositiveInt | None, "Steps between two checkpoints (default: about every 30 seconds)."
    ] = None
    look_every: Annotated[
        PositiveInt | None,
        "Epochs between two passes over the training data that see which units never fire "
        "(default: one pass, after the last epoch).",
    ] = None
    log: Annotated[Path | None, "Folder to log to, for TensorBoard and as CSV."] = None
    record: Annotated[Path | None, "Append the run's figures to this .jsonl file."] = None
    data_root: Annotated[
        Path | None, "Folder of the data sets (default: $ABSCISE_DATA, then the hub)."
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproduceOptions:
    """Options of `abscise reproduce`."""

    experiment: Annotated[str, "Which experiment, e.g. transformed-l1."]
    out: Annotated[Path | None, "File of finished runs (default: results/EXPERIMENT.jsonl)."] = None
    quick: Annotated[bool, "A small sweep in a minute or two; its figures mean nothing."] = False
    datasets: Annotated[tuple[str, ...], "Only this data set. Repeatable."] = ()
    networks: Annotated[tuple[str, ...], "Only this network. Repeatable."] = ()
    methods: Annotated[tuple[str, ...], "Only this method. Repeatable."] = ()
    seeds: Annotated[tuple[str, ...], "This seed instead of the experiment's. Repeatable."] = ()
    strengths: Annotated[tuple[str, ...], "This strength instead of the grid. Repeatable."] = ()
    epochs: Annotated[NonNegativeInt, "Instead of the experiment's; 0: those."] = 0
    limit: Annotated[NonNegativeInt, "Only the first so many runs; 0: all."] = 0
    workers: Annotated[PositiveInt, "Processes that share the work."] = 1
    device: Annotated[str, "As torch names it: cpu, cuda."] = "cpu"
    data_root: Annotated[
        Path | None, "Folder of the data sets (default: $ABSCISE_DATA, then the hub)."
    ] = None
    report: Annotated[
        bool, "Run nothing: write tables and pictures of the finished runs (chosen)."
    ] = False
    to: Annotated[
        Path | None, "With --report: folder to write to (default: OUT without .jsonl)."
    ] = None
    page: Annotated[
        Path | None, "With --report: a Markdown file whose block EXPERIMENT is rewritten."
    ] = None


def add_options(parser: ArgumentParser, options: type) -> None:
    """Add one argument per field of the dataclass `options`."""
    hints = get_type_hints(options, include_extras=True)
    for entry in dataclasses.fields(options):
        hint, text, *marks = get_args(hints[entry.name])
        if MAY_LEAD in marks:
            parser.add_argument(entry.name, type=hint, nargs="?", default=entry.default, help=text)
        elif _required(entry):
            parser.add_argument(entry.name, type=hint, help=text)
        else:
            _add_optional(parser, entry, _present(hint), text)


def read_options(options: type, values: dict[str, Any]) -> Any:
    """The dataclass `options` from what its parser found."""
    found = {entry.name: values[entry.name] for entry in dataclasses.fields(options)}
    return options(**{key: tuple(v) if isinstance(v, list) else v for key, v in found.items()})


def _required(entry: "dataclasses.Field[Any]") -> bool:
    return entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING


def _add_optional(
    parser: ArgumentParser, entry: "dataclasses.Field[Any]", hint: Any, text: str
) -> None:
    name = "--" + entry.name.replace("_", "-")
    if hint is bool:
        parser.add_argument(name, action="store_true", help=text)
    elif get_origin(hint) is tuple:
        parser.add_argument(name, action="append", default=[], type=get_args(hint)[0], help=text)
    elif entry.default is dataclasses.MISSING:
        parser.add_argument(name, type=hint, default={}, help=text)
    else:
        parser.add_argument(name, type=hint, default=entry.default, help=text)


def _present(hint: Any) -> Any:
    """`T` for `T | None`."""
    if get_origin(hint) not in {Union, types.UnionType}:
        return hint
    (present,) = (part for part in get_args(hint) if part is not type(None))
    return present
