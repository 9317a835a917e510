"""Sequence to sequence: a GRU reads digits, a GRU with attention writes them in reverse."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention as attention

from common import start


class Seq2Seq(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 32)
        self.encoder = nn.GRU(32, 32, batch_first=True)
        self.decoder = nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(64, 11)

    def forward(self, source, target):
        memory, state = self.encoder(self.words(source))
        y, _ = self.decoder(self.words(target), state)
        seen = attention(y.unsqueeze(1), memory.unsqueeze(1), memory.unsqueeze(1)).squeeze(1)
        return self.head(torch.cat([y, seen], -1))


model = Seq2Seq()
source = torch.randint(10, (100, 32, 8))
reverse = source.flip(-1)
target = torch.cat([torch.full((100, 32, 1), 10), reverse[..., :-1]], -1)  # begins with the sign 10
data = start({"m.": model}, {k: v.to(torch.uint32) for k, v in {"source": source, "in": target, "out": reverse}.items()})
optimizer = torch.optim.Adam(model.parameters(), 5e-3)
for step in range(100):
    logits = model(data["source"][step].long(), data["in"][step].long())
    loss = cross_entropy(logits.reshape(-1, 11), data["out"][step].reshape(-1).long())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    print(loss.item())
