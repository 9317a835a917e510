"""Two tasks of one trunk: a class, and a number."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from common import start


class MultiTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(10, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 64), nn.GELU())
        self.classes = nn.Linear(64, 4)
        self.value = nn.Linear(64, 1)

    def forward(self, x):
        h = self.trunk(x)
        return self.classes(h), self.value(h)


model = MultiTask()
x = torch.randn(100, 32, 10)
classes = x[..., :4].argmax(-1).to(torch.uint32)
data = start({"m.": model}, {"x": x, "class": classes, "value": x.square().mean(-1, keepdim=True)})
optimizer = torch.optim.SGD(
    [
        {"params": model.trunk.parameters()},
        {"params": [*model.classes.parameters(), *model.value.parameters()], "lr": 0.1},
    ],
    lr=0.05,
    momentum=0.9,
    weight_decay=1e-3,
)
for step in range(100):
    logits, value = model(data["x"][step])
    loss = cross_entropy(logits, data["class"][step].long()) + 0.5 * mse_loss(value, data["value"][step])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
