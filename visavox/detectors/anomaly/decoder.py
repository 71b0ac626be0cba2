"""How likely each step is after those before it: a causal transformer that gives the next step as a mixture of Gaussians.

N windows · T steps · D width of a fused feature · K components of the mixture
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from visavox.config import AnomalyConfig
from visavox.detectors.anomaly.streams import positions


class NextStep(nn.Module):
    """p(x_t | x_<t), every step after those before it, the first after nothing."""

    def __init__(self, settings: AnomalyConfig) -> None:
        super().__init__()
        width = settings.decoder_d_model
        self.inputs = settings.vis_transformer_d_model
        self.mixtures = settings.mixtures
        self.least_variance = settings.least_variance
        self.embed = nn.Linear(self.inputs, width)
        self.start = nn.Parameter(torch.zeros(width))
        layer = nn.TransformerEncoderLayer(
            width, settings.decoder_heads, 4 * width, settings.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, settings.decoder_layers, nn.LayerNorm(width), False)
        self.weights = nn.Linear(width, self.mixtures)
        self.means = nn.Linear(width, self.mixtures * self.inputs)
        self.variances = nn.Linear(width, self.mixtures * self.inputs)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (N, T, D) float32, valid (N, T) -> negative log-likelihood of each step in nats, (N, T); 0 where not valid.

        Step t is given x_0 to x_{t-1}. Padding stands at the end, so no valid step ever looks at it.
        """
        before = pad(self.embed(x[:, :-1]), (0, 0, 1, 0))  # (N, T, E), room for the start
        before = torch.cat([self.start.expand(len(x), 1, -1), before[:, 1:]], dim=1)
        T = x.shape[1]
        later = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)
        h = self.layers(before + positions(before), mask=later)  # (N, T, E)
        with torch.autocast(x.device.type, enabled=False):  # of bfloat16's 8 bits a likelihood would keep little
            each = self._components(x, h.float())  # (N, T, K)
        return (-torch.logsumexp(each, -1)).where(valid, 0.0)  # (N, T)

    def _components(self, x: Tensor, h: Tensor) -> Tensor:
        """x (N, T, D), hidden h (N, T, E) -> log of weight times density of each Gaussian, (N, T, K)."""
        means = self.means(h).unflatten(-1, (self.mixtures, self.inputs))  # (N, T, K, D)
        variances = self.least_variance + softplus(self.variances(h)).unflatten(-1, (self.mixtures, -1))
        squares = (x[:, :, None] - means) ** 2 / variances
        densities = -0.5 * (squares + variances.log() + math.log(2 * math.pi)).sum(-1)  # (N, T, K)
        return self.weights(h).log_softmax(-1) + densities
