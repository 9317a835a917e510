"""A small U-Net that marks the discs in pictures of noise."""

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from common import start


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.bottom = block(1, 8), block(8, 16), block(16, 32)
        self.up2, self.merge2 = nn.ConvTranspose2d(32, 16, 2, stride=2), block(32, 16)
        self.up1, self.merge1 = nn.ConvTranspose2d(16, 8, 2, stride=2), block(16, 8)
        self.head = nn.Conv2d(8, 1, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(self.pool(a))
        c = self.bottom(self.pool(b))
        b = self.merge2(torch.cat([self.up2(c), b], 1))
        a = self.merge1(torch.cat([self.up1(b), a], 1))
        return self.head(a)


model = UNet()
axis = torch.arange(32.0)
center, radius = 32 * torch.rand(100, 4, 2, 1, 1), 4 + 6 * torch.rand(100, 4, 1, 1)
distance = (axis - center[:, :, 0]).square() + (axis[:, None] - center[:, :, 1]).square()
disc = (distance < radius.square()).float().unsqueeze(2)
data = start({"m.": model}, {"x": disc + 0.5 * torch.randn(disc.shape), "disc": disc})
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
for step in range(100):
    loss = bce(model(data["x"][step]), data["disc"][step])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
