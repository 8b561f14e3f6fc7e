"""How large the tensors are that some code makes."""

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override


class Largest(TorchDispatchMode):
    """How many elements the largest tensor has that is made inside, of those not seen before."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = 0
        self._known = {tensor.untyped_storage().data_ptr() for tensor in known}

    @override
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self._known:
                    self.elements = max(self.elements, storage.nbytes() // tensor.element_size())
        return made
