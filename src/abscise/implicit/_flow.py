"""Which parameters write what an activation function reads, seen in one forward.

Call by call: what a linear layer or a convolution gives was written by its weight; what is normed,
by the scale as well; what is added, moved or pooled, by all that wrote its operands; what an
activation gives starts anew. What such a function silences is a unit of the parameters that wrote
what it reads, and of no others.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from abscise._copying import copy_model
from abscise._errors import InputError
from abscise._inputs import ExampleInputs, as_inputs, map_tensors, tensors_in
from abscise.implicit._functions import DIES, LIVES, Call, FunctionCalls, kind_of
from abscise.implicit._slopes import Leak, leak_of_call

_CONTRACTIONS = frozenset(
    {
        "bilinear", "bmm", "conv1d", "conv2d", "conv3d", "convtranspose1d", "convtranspose2d",
        "convtranspose3d", "einsum", "gru", "linear", "lstm", "matmul", "mm", "mv",
        "multiheadattentionforward", "rmatmul", "rnnrelu", "rnntanh", "scaleddotproductattention",
        "tensordot",
    }
)  # fmt: skip
"""Their first operand is read; the others, or what computed them, write."""

_ADDED = frozenset({"addbmm", "addmm", "addmv", "baddbmm"})
"""The same with a summand before."""


class Flow:
    """What one forward shows.

    Args:
        model: Whose calls are seen.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = {id(it): name for name, it in model.named_parameters()}
        self._writers: Any = WeakTensorKeyDictionary()
        self.names: set[str] = set()
        """Of the functions and modules that were called."""
        self.leaks: set[Leak | None] = set()
        """What leaks through them."""
        self.into_dying: frozenset[str] = frozenset()
        """Parameters that write what a function of `DIES` reads."""
        self.into_living: frozenset[str] = frozenset()
        """The same for `LIVES`."""

    def enter(self, module: nn.Module, _args: object) -> None:
        """A module is called."""
        self.names.add(kind_of(module))

    def see(self, call: Call) -> None:
        """A function was called."""
        self.names.add(call.name)
        self.leaks.add(leak_of_call(call.name, call.args, call.kwargs))
        writers = self._written_by(call)
        if call.name in DIES:
            self.into_dying |= writers
        elif call.name in LIVES:
            self.into_living |= writers
        anew = call.name in DIES or call.name in LIVES
        for tensor in tensors_in(call.result):
            if id(tensor) not in self._parameters:
                self._writers[tensor] = frozenset[str]() if anew else writers

    def _written_by(self, call: Call) -> frozenset[str]:
        """The parameters that wrote what a call reads, or writes."""
        args = call.args
        if call.name in _ADDED:
            args = args[2:]
        elif call.name in _CONTRACTIONS:
            args = args[1:]
        found = frozenset[str]()
        for tensor in tensors_in((args, dict(call.kwargs))):
            found |= self._of(tensor)
        return found

    def _of(self, tensor: Tensor) -> frozenset[str]:
        name = self._parameters.get(id(tensor))
        if name is not None:
            return frozenset({name})
        writers: frozenset[str] = self._writers.get(tensor, frozenset())
        return writers


def flow_of(model: nn.Module, example_inputs: ExampleInputs) -> Flow:
    """One forward of a copy in eval mode; the model has no hook and stays as it was.

    Raises:
        InputError: The inputs do not run.
        ModelError: The model cannot be copied.
    """
    inputs = as_inputs(example_inputs)
    place = next((it.device for it in model.parameters()), torch.device("cpu"))
    args, kwargs = map_tensors((inputs.args, dict(inputs.kwargs)), lambda it: it.to(place))
    copy = copy_model(model, share=False, shared=model.parameters()).eval()
    flow = Flow(copy)
    for module in copy.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            _ = module.register_forward_pre_hook(flow.enter)
    with torch.random.fork_rng(), torch.no_grad(), FunctionCalls(flow.see):
        try:
            _ = copy(*args, **kwargs)
        except Exception as problem:
            reason = " ".join(str(problem).split())[:200]
            message = f"{type(model).__name__} does not run on the example inputs: {reason}"
            raise InputError(message) from problem
    return flow
