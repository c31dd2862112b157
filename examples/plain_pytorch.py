"""A PyTorch loop without Lightning: the dimension of two layers after every epoch.

python examples/plain_pytorch.py
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lightning_id import record_activations
from lightning_id.functional import twonn_dimension
from lightning_id.manifolds import gaussian

x = gaussian(3000, dimension=6, ambient=30, seed=0).float()
y = (x[:, :3] > 0).long() @ torch.tensor([1, 2, 4])  # eight classes
net = nn.Sequential(nn.Linear(30, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 8))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)

for epoch in range(4):
    if epoch:  # epoch 0 is the untrained network
        for rows in torch.randperm(2000).split(50):
            optimizer.zero_grad()
            cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
    with record_activations(net, layers=["input", "1", "3"]) as recorded, torch.no_grad():
        accuracy = (net(x[2000:]).argmax(1) == y[2000:]).float().mean()
    found = "  ".join(f"{name} {twonn_dimension(h).value:.2f}" for name, h in recorded.items())
    print(f"epoch {epoch}  accuracy {accuracy:.2f}  TwoNN: {found}")
