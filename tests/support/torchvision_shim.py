"""Make `import torchvision` work beside a CPU torch, where its C++ operators are missing.

torchvision registers meta kernels for operators that its C++ library would define, and raises when
there are none. Defining empty schemas of the same names first lets the import pass; the models of
classification and segmentation call none of them.
"""

import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import torch


@cache
def torchvision_models() -> ModuleType:
    """The module `torchvision.models`.

    Raises:
        ImportError: torchvision is not installed.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        message = "torchvision is not installed"
        raise ImportError(message)
    library = define_missing(Path(spec.origin).parent / "_meta_registrations.py")
    models = importlib.import_module("torchvision.models")
    models.__dict__["_operator_schemas"] = library  # dropped with its last reference: keep it
    return models


def define_missing(registrations: Path) -> torch.library.Library:
    """Define every operator that `registrations` gives a meta kernel, unless it is there."""
    source = registrations.read_text(encoding="utf-8")
    names = set(re.findall(r'register_meta\(\s*"(\w+)"', source))
    names |= set(re.findall(r'register_fake\(\s*"torchvision::(\w+)"', source))
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in sorted(names):
        if not hasattr(torch.ops.torchvision, name):
            _ = library.define(f"{name}(Tensor x) -> Tensor")
    return library
