"""A PyTorch loop without Lightning: the dimension of every layer while a network trains.

python examples/plain_pytorch.py
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from lightning_id import monitor
from lightning_id.history.tables import end_table
from lightning_id.manifolds import gaussian

x = gaussian(3000, dimension=6, ambient=30, seed=0).float()
y = (x[:, :3] > 0).long() @ torch.tensor([1, 2, 4])  # eight classes
net = nn.Sequential(nn.Linear(30, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 8))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)

# Measured before the first step, after every 40th and at the end, on samples that are not trained.
with monitor(net, TensorDataset(x[2000:]), every=40, layers=["input", "1", "3"]) as watch:
    for epoch in range(3):
        for rows in torch.randperm(2000).split(50):
            optimizer.zero_grad()
            cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
            watch.step(epoch)
        accuracy = (net(x[2000:]).argmax(1) == y[2000:]).float().mean()
        watch.record(epoch, val_acc=accuracy)
        print(f"epoch {epoch}  accuracy {accuracy:.2f}")

print(end_table(watch.history))
