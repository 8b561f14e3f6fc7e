"""The exception tree: everything abscise raises on purpose, apart from ValueError and TypeError."""


class AbsciseError(Exception):
    """Base of all errors that abscise raises on purpose; the text names the thing and a way out."""


class InputError(AbsciseError):
    """Example inputs, or the data given, do not fit the model."""


class CaptureError(AbsciseError):
    """`torch.export` could not turn the model's forward into a graph."""


class ModelError(AbsciseError):
    """The model cannot be worked on as it is (NaN weights, two parameters on one storage)."""


class PlanError(AbsciseError):
    """A plan is malformed, belongs to another architecture, or would remove a live unit."""


class StoreError(AbsciseError):
    """A file cannot be read or written: missing, truncated, edited, hostile, or no space left."""


class NotEqualError(AbsciseError):
    """The compacted model does not give the dense model's outputs."""


class RecipeError(AbsciseError):
    """A training recipe has an unknown key or an impossible value."""


class DataError(AbsciseError):
    """A data set is missing or does not have the columns that the recipe expects."""


class MissingExtraError(AbsciseError):
    """An optional package is needed; the text holds its pip command."""
