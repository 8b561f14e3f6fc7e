"""Units die while a network trains, and are then removed: `python examples/proximal.py`.

The network reads the handwritten digits that come with scikit-learn (`pip install scikit-learn`),
and is far wider than it needs to be. What `Proximal` makes 0 is exactly 0.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import abscise
from abscise.penalties import GroupLasso
from abscise.sparsify import Proximal

digits = load_digits()
inputs = torch.tensor(digits.data / 16, dtype=torch.float32)
labels = torch.tensor(digits.target)
train, test = torch.arange(len(labels)).split([1400, len(labels) - 1400])
_ = torch.manual_seed(0)
layers = (nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
model = nn.Sequential(*layers)

# Your loop: only the two lines with `sparsifier` are new.
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
units = abscise.find_units(model, inputs[:8])
sparsifier = Proximal(GroupLasso(), strength=3e-3, groups=units)
with abscise.attach(sparsifier, optimizer, model) as attached:
    for _epoch in range(60):
        for batch in train[torch.randperm(len(train))].split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    print(f"{attached.worker.sparsity:.0%} of the units are 0")
result = abscise.compact(model.eval(), inputs[test])
abscise.save("proximal-digits", result)

accuracy = (result.model(inputs[test]).argmax(1) == labels[test]).float().mean()
print(f"removed {result.plan.removed_units} of {result.plan.units} units")
print(f"certificate passed: {result.certificate.passed}; accuracy {accuracy:.1%}")
