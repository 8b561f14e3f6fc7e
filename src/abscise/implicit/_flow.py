"""Which parameters write what an activation function reads, seen in one forward.

Call by call: what a contraction gives was written by those of its operands that are weights, or
are computed from weights alone; what is normed, by the scale as well; what is added, moved or
pooled, by all that wrote its operands; what a function that silences gives starts anew. So what it
silences is a unit of the weights and scales that wrote what it reads.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from abscise._copying import copy_model
from abscise._inputs import ExampleInputs, Inputs, as_inputs, map_tensors, tensors_in
from abscise.implicit._forward import forward
from abscise.implicit._functions import DIES, LIVES, Call, FunctionCalls, kind_of
from abscise.implicit._slopes import Leak, leak_of_call

_CONTRACTIONS = frozenset(
    {
        "addbmm", "addmm", "addmv", "baddbmm", "bilinear", "bmm", "chainmatmul", "conv1d", "conv2d",
        "conv3d", "convolution", "convtranspose1d", "convtranspose2d", "convtranspose3d", "einsum",
        "embedding", "embeddingbag", "gru", "grucell", "inner", "linear", "lstm", "lstmcell",
        "matmul", "mm", "multidot", "multiheadattentionforward", "mv", "rmatmul", "rnnrelu",
        "rnnrelucell", "rnntanh", "rnntanhcell", "scaleddotproductattention", "tensordot",
    }
)  # fmt: skip
_TABLES = frozenset({"embedding", "embeddingbag"})
_SUMMANDS = frozenset({"addbmm", "addmm", "addmv", "baddbmm"})
"""Contractions with a summand as first operand."""

_NORMS = frozenset({"batchnorm", "groupnorm", "instancenorm", "layernorm", "rmsnorm"})


class _Origin(NamedTuple):
    """Where a tensor comes from.

    Args:
        writers: Names of the parameters that wrote it.
        data: Does it depend on the inputs?
        unseen: Was it, or what it was made of, written by what was not seen?
    """

    writers: frozenset[str] = frozenset()
    data: bool = False
    unseen: bool = False


def _joined(origins: Iterable[_Origin]) -> _Origin:
    found = _Origin()
    for it in origins:
        found = _Origin(
            found.writers | it.writers, found.data or it.data, found.unseen or it.unseen
        )
    return found


class Flow:
    """What one forward shows.

    Args:
        model: Whose calls are seen.
        inputs: The tensors that it is called with.
    """

    def __init__(self, model: nn.Module, inputs: Iterable[Tensor]) -> None:
        self._parameters = {id(it): name for name, it in model.named_parameters()}
        self._origins: Any = WeakTensorKeyDictionary()
        for buffer in model.buffers():
            self._origins[buffer] = _Origin()
        for tensor in inputs:
            self._origins[tensor] = _Origin(data=True)
        self._weights: set[str] = set()
        self._into: dict[bool, frozenset[str]] = {True: frozenset(), False: frozenset()}
        self.names: set[str] = set()
        """Of the functions and modules that were called."""
        self.leaks: set[Leak | None] = set()
        """What leaks through them."""
        self.complete = True
        """Was all of it seen that an activation reads?"""

    def into(self, *, dying: bool) -> frozenset[str]:
        """Weights and scales that write what functions of `DIES` read, or those of `LIVES`."""
        return self._into[dying] & self._weights

    def enter(self, module: nn.Module, _args: object) -> None:
        """A module is called."""
        self.names.add(kind_of(module))

    def see(self, call: Call) -> None:
        """A function was called."""
        self.names.add(call.name)
        self.leaks.add(leak_of_call(call.name, call.args, call.kwargs))
        origin = self._contracted(call) if call.name in _CONTRACTIONS else self._passed(call)
        if call.name in DIES or call.name in LIVES:
            dying = call.name in DIES
            self._into[dying] |= origin.writers
            self.complete = self.complete and not origin.unseen
            origin = _Origin(data=origin.data) if dying else origin
        for tensor in tensors_in((call.result, call.kwargs.get("out"))):
            self._note(tensor, origin)
        if call.in_place and call.args and isinstance(call.args[0], Tensor):
            self._write_into(call.args[0], origin)

    def _contracted(self, call: Call) -> _Origin:
        operands = tensors_in((call.args, dict(call.kwargs)))
        origins = [self._of(it) for it in operands]
        added = origins[:1] if call.name in _SUMMANDS and origins[0].data else []
        weights = [it for it in origins if not it.data]
        if call.name not in _TABLES:
            for operand, it in zip(operands, origins, strict=True):
                self._weights |= it.writers if operand.dim() > 1 and not it.data else set()
        data = any(it.data for it in origins)
        if any(it.writers for it in weights):
            joined = _joined([*weights, *added])
            return joined._replace(data=data, unseen=any(it.unseen for it in added))
        if call.name == "scaleddotproductattention":
            value = call.kwargs.get("value", call.args[2] if len(call.args) > 2 else None)
            return _joined(map(self._of, tensors_in(value)))._replace(data=data)
        return _joined(origins)

    def _passed(self, call: Call) -> _Origin:
        tensors = tensors_in((call.args, dict(call.kwargs)))
        if call.name in _NORMS:
            self._weights |= {
                self._parameters[id(it)] for it in tensors if id(it) in self._parameters
            }
        return _joined(map(self._of, tensors))

    def _of(self, tensor: Tensor) -> _Origin:
        name = self._parameters.get(id(tensor))
        if name is not None:
            return _Origin(frozenset({name}))
        found: _Origin | None = self._origins.get(tensor)
        if found is None:
            return _Origin(data=True, unseen=tensor.is_floating_point())
        return found

    def _note(self, tensor: Tensor, origin: _Origin) -> None:
        if id(tensor) not in self._parameters:
            self._origins[tensor] = origin

    def _write_into(self, target: Tensor, origin: _Origin) -> None:
        """What is written into a tensor, or into a view of one."""
        for tensor in (target, target._base):  # noqa: SLF001 - torch's name for it
            if isinstance(tensor, Tensor):
                known = self._of(tensor) if tensor is not target else _Origin()
                self._note(tensor, _joined([known, origin]))


def flow_of(model: nn.Module, example_inputs: ExampleInputs) -> Flow:
    """One forward of a copy in eval mode, on copies of the inputs; the model stays as it was.

    Raises:
        InputError: The inputs do not run.
        ModelError: The model cannot be copied.
    """
    given = as_inputs(example_inputs)
    inputs = Inputs(*map_tensors((given.args, dict(given.kwargs)), lambda it: it.detach().clone()))
    copy = copy_model(model, share=False).eval()
    flow = Flow(copy, inputs.tensors())
    for module in copy.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            _ = module.register_forward_pre_hook(flow.enter)
    with torch.random.fork_rng(), torch.no_grad(), _not_compiled(), FunctionCalls(flow.see):
        _ = forward(copy, inputs, "example inputs")
    return flow


@contextmanager
def _not_compiled() -> Iterator[None]:
    """What torch.compile made runs as it was written, so that its calls are seen."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
