"""A GAN that learns eight points on a circle."""

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from common import start


def mlp(inputs, outputs):
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, outputs)
    )


generator, critic = mlp(8, 2), mlp(2, 1)
angle = torch.randint(8, (100, 64)) * torch.pi / 4
real = torch.stack([angle.cos(), angle.sin()], -1) + 0.05 * torch.randn(100, 64, 2)
data = start({"g.": generator, "c.": critic}, {"real": real, "noise": torch.randn(100, 64, 8)})

g_adam = torch.optim.Adam(generator.parameters(), 1e-3, betas=(0.5, 0.999))
c_adam = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.5, 0.999))
ones, zeros = torch.ones(64, 1), torch.zeros(64, 1)
for step in range(100):
    fake = generator(data["noise"][step])
    c_loss = bce(critic(data["real"][step]), ones) + bce(critic(fake.detach()), zeros)
    c_adam.zero_grad()
    c_loss.backward()
    c_adam.step()
    critic.requires_grad_(False)
    g_loss = bce(critic(fake), ones)
    g_adam.zero_grad()
    g_loss.backward()
    g_adam.step()
    critic.requires_grad_(True)
    print(c_loss.item(), g_loss.item())
