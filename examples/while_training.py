"""See units die, and let them go while the training runs: `python examples/while_training.py`.

The network reads the handwritten digits that come with scikit-learn (`pip install scikit-learn`).
Adam with L2 kills most of it; the loop is one of your own, and three things are attached to it.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import abscise
from abscise.implicit import Look, Tracker, diagnose

digits = load_digits()
x = torch.tensor(digits.data / 16, dtype=torch.float32)
y = torch.tensor(digits.target)
_ = torch.manual_seed(0)
loader = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=20, shuffle=True, drop_last=True)
layers = (nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
model = nn.Sequential(*layers)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, betas=(0.9, 0.99), weight_decay=1e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)

print(diagnose(model, optimizer, x[:8], steps=2100, gradient_rms=1e-3).verdict)

look = Look(loader, every=1050, labelled=True)  # a full pass, twice
shrinking = abscise.ShrinkWhileTraining(x[:8], every=350, snap=1e-3, observer=print)
tracker = Tracker(model, x[:8], optimizer, every=1050, look=look, sinks=[print])
with abscise.attach(shrinking, optimizer, model), tracker:
    for _epoch in range(30):
        for inputs, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
        schedule.step()

accuracy = (model.eval()(x[1400:]).argmax(1) == y[1400:]).float().mean()
widths = [it.out_features for it in layers if isinstance(it, nn.Linear)]
print(f"accuracy {accuracy:.1%} with {widths} units")
