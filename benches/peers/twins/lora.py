"""Fine-tuning with LoRA: a frozen Transformer encoder and classifier, low-rank additions to its feed-forward layers."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from common import start


class Lora(nn.Module):
    def __init__(self, base, rank):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, base.in_features) * 0.1)
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x):
        return self.base(x) + 2.0 * (x @ self.a.T @ self.b.T)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 32).requires_grad_(False)
        self.encoder = nn.TransformerEncoderLayer(32, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder.requires_grad_(False)
        self.up = Lora(nn.Linear(32, 64), 4)
        self.head = nn.Linear(64, 3)

    def forward(self, ids):
        x = self.encoder(self.words(ids)).mean(1)
        return self.head(self.up(x).relu())


model = Classifier()
ids = torch.randint(50, (100, 16, 12), dtype=torch.int32)
data = start({"m.": model}, {"ids": ids.to(torch.uint32), "classes": (ids[..., 0] % 3).to(torch.uint32)})
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
for step in range(100):
    loss = cross_entropy(model(data["ids"][step].long()), data["classes"][step].long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
