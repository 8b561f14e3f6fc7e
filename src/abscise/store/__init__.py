"""Saved models: a folder with `plan.json`, `model.safetensors` and `certificate.json`; no pickle.

`save` writes a whole folder or leaves the old one, with `sparse=True` in as few bytes as the zeros
among the weights allow. `load` rebuilds the compacted model from the original class,
`read_checkpoint` reads other people's weights. Whatever is read is checked field by field: a
truncated, edited or hostile file gives one line of `StoreError` or `PlanError`.
"""

from abscise.store._atomic import refuse_foreign, write_bytes_atomically, write_json_atomically
from abscise.store._checkpoint import read_checkpoint
from abscise.store._folder import (
    bytes_on_disk,
    existing_folder,
    file_bytes,
    load,
    read_certificate,
    read_json,
    read_plan,
    save,
    write_plan,
)
from abscise.store._weights import load_weights

__all__ = [
    "bytes_on_disk",
    "existing_folder",
    "file_bytes",
    "load",
    "load_weights",
    "read_certificate",
    "read_checkpoint",
    "read_json",
    "read_plan",
    "refuse_foreign",
    "save",
    "write_bytes_atomically",
    "write_json_atomically",
    "write_plan",
]
