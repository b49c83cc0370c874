"""How well classes are separated in a representation: the soft nearest neighbour loss (paper.md 5.1)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from seelike.measures.gram import shifted_gram

Distance = Literal["euclidean", "cosine"]
AT_A_TIME = 1 << 22
"""Numbers worked on at a time: temperatures x images x images."""
SMALLEST = 1e-280
"""A sum of exponentials below this has lost digits: it is made in logarithms instead."""


def squared_distances(features: Tensor, distance: Distance = "euclidean") -> Tensor:
    """Distances between all pairs of examples, (n, ...) -> (n, n) float64; everything after the batch is flattened.

    ``euclidean``: squared; ``cosine``: one minus the cosine. Exactly zero on the diagonal.
    """
    x = features.flatten(1)
    if distance == "cosine":
        x = x.double() if x.dtype == torch.float64 else x.float()
        x = x / torch.linalg.vector_norm(x, dim=1, keepdim=True)
    gram = shifted_gram(x)
    norms = gram.diagonal()
    squared = (norms[:, None] + norms[None] - 2 * gram).clamp_min(0)  # rounding may leave a little less than nothing
    squared.fill_diagonal_(0)
    return squared / 2 if distance == "cosine" else squared


def scaled(distances: Tensor) -> Tensor:
    """Distances divided by their mean over all pairs, so that layers of any width and size can be compared.

    NaN where all examples are the same.
    """
    n = len(distances)
    return distances / (distances.sum() / (n * (n - 1)))


def soft_nearest_neighbour_losses(distances: Tensor, labels: Tensor, temperatures: Tensor) -> Tensor:
    """How far each example's neighbours are of other classes (Frosst, Papernot & Hinton 2019, equation 1).

        l_i(T) = -log [ sum_{j != i, y_j = y_i} exp(-d_ij / T) / sum_{k != i} exp(-d_ik / T) ]

    The loss of a batch is the mean over its examples. It depends on their number: with labels that have nothing to do
    with the distances it is about log((n - 1) / others of the class). No constant is added anywhere: sums
    that would vanish are made in logarithms.

    Args:
        distances: (n, n) float64; labels: (n,).
        temperatures: (T,) positive; infinity is allowed, and gives that chance level.

    Returns:
        (T, n); NaN for an example without another one of its class, for which the loss is not defined.
    """
    n = len(distances)
    self_pair = torch.eye(n, dtype=torch.bool, device=distances.device)
    same = (labels[:, None] == labels[None]) & ~self_pair
    nearest = distances.masked_fill(self_pair, torch.inf).amin(1, keepdim=True)  # so that no sum is too small
    exponents = nearest - distances
    step = max(1, AT_A_TIME // n**2)
    losses = []
    for part in torch.split(temperatures.to(distances), step):
        over = (exponents / part[:, None, None]).masked_fill(self_pair, -torch.inf)  # (T, n, n), also for T infinite
        shares = over.exp()
        positive = (shares * same).sum(-1)
        loss = shares.sum(-1).log() - positive.log()
        if bool((positive < SMALLEST)[:, same.any(1)].any()):
            loss = shares.sum(-1).log() - torch.logsumexp(over.masked_fill(~same, -torch.inf), -1)
        losses.append(loss)
    return torch.cat(losses).masked_fill(~same.any(1), torch.nan)


def lowest(losses: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest loss over temperatures, and where it is, from losses on a grid.

    Inside the grid a parabola in log T through the smallest value and its neighbours gives both; at the grid's ends,
    infinity among them, they are those of the end.

    Args:
        losses: (..., T) for ascending temperatures, evenly spaced in log T but for an infinite last one.

    Returns:
        Loss and temperature, each (...).
    """
    finite = len(temperatures) - int(temperatures[-1].isinf())
    place = torch.nan_to_num(losses, nan=torch.inf).argmin(-1)
    inside = (place > 0) & (place < finite - 1)
    middle = place.clamp(1, finite - 2)[..., None]
    left, centre, right = (losses.gather(-1, middle + step)[..., 0] for step in (-1, 0, 1))
    curvature = left - 2 * centre + right
    shift = ((left - right) / (2 * curvature)).where(inside & (curvature > 0), 0.0)
    value = losses.gather(-1, place[..., None])[..., 0] - (left - right) * shift / 4
    spacing = (temperatures[1] / temperatures[0]).log()
    return value, temperatures[place] * (shift * spacing).exp()
