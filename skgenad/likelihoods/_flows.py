"""Flows: invertible maps to standard normal codes, at one scale or several (Glow).

At scale i the representation h_{i-1} is squeezed and goes through steps of normalisation, mixing
and coupling. One half of the outcome, normalised once more, is the code z_i; the other is h_i, what
the next scale gets; at the last scale all is code. The codes are independent, so that

    log p(x) = sum_i c_i(x),    c_i(x) = log N(z_i; 0, I) + log |det d(h_i, z_i) / d h_{i-1}|.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skgenad._tensors import draws
from skgenad._tensors.device import precise

from ._couplings import Elementwise, conv_coupling, dense_coupling
from ._flow_layers import (
    ActNorm,
    Chain,
    Flatten,
    FlowLayer,
    NormalizedConv,
    NormalizedRotation,
    Squeeze,
    row_sums,
)

Shape = tuple[int, ...]

_LOG_2PI = math.log(2 * math.pi)


def conv_step(n_channels: int, hidden: int, affine: bool, norm: bool = False) -> FlowLayer:
    """Make a step of Glow: activation normalisation, 1x1 convolution, coupling (S1.1)."""
    mixing = NormalizedConv(n_channels)
    return Chain([mixing, conv_coupling(n_channels, hidden, affine, norm=norm)])


def dense_step(n_features: int, hidden: int, affine: bool, norm: bool = False) -> FlowLayer:
    """Make a step of dense Glow: normalisation, fixed rotation, coupling (S2.2).

    With one column there is nothing to mix or to couple.
    """
    if n_features == 1:
        return Chain([ActNorm((1,)), Elementwise(1, max(1, hidden // 8))])
    mixing = NormalizedRotation(n_features)
    return Chain([mixing, dense_coupling(n_features, hidden, affine, norm=norm)])


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The steps of a scale: each of normalisation, mixing and coupling.

    Parameters
    ----------
    n : int
        Number of steps.
    hidden : int
        Width of the two hidden layers of the networks in couplings.
    kind : {"conv", "dense"}, default="dense"
        Whether steps see the pixels around or the whole row; rows of shape (d,) have dense steps.
    affine : bool, default=True
        Whether couplings scale besides shifting.
    norm : bool, default=False
        Whether networks in couplings normalise their hidden layers and scale their last one.
    """

    n: int
    hidden: int
    kind: str = "dense"
    affine: bool = True
    norm: bool = False

    def make(self, shape: Shape) -> list[FlowLayer]:
        """Make the steps for rows of a shape, (d,) or (C, H, W); dense ones flatten images."""
        if self.kind == "conv":
            return [self._step(conv_step, shape[0]) for _ in range(self.n)]
        flatten: list[FlowLayer] = [Flatten(shape)] if len(shape) == 3 else []
        d = math.prod(shape)
        return flatten + [self._step(dense_step, d) for _ in range(self.n)]

    def _step(self, make: Callable[..., FlowLayer], size: int) -> FlowLayer:
        return make(size, self.hidden, self.affine, self.norm)


class Scale(nn.Module):
    """One scale: steps, after which a part of the outcome is code and the rest goes on.

    Parameters
    ----------
    shape : tuple of int
        (d,) or (C, H, W) of what the scale gets.
    steps : Steps
        What steps it has.
    is_last : bool
        Whether all of the outcome is code.
    """

    def __init__(self, shape: Shape, steps: Steps, *, is_last: bool) -> None:
        super().__init__()
        squeeze: list[FlowLayer] = []
        if len(shape) == 3:
            channels, height, width = shape
            shape, squeeze = (4 * channels, height // 2, width // 2), [Squeeze()]
        # Images stay flat between dense steps.
        self.flatten = Flatten(shape) if squeeze and steps.kind == "dense" else None
        self.steps = Chain(squeeze + steps.make(shape))
        self.n_passed_on = 0 if is_last else shape[0] // 2
        self.passed_shape: Shape = (self.n_passed_on, *shape[1:])
        self.code_shape: Shape = (shape[0] - self.n_passed_on, *shape[1:])
        self.code_norm = ActNorm(self.code_shape)

    def _split(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """h_i and the code before its normalisation."""
        if self.flatten is not None:
            y = self.flatten.inverse(y)
        return y[:, : self.n_passed_on], y[:, self.n_passed_on :]

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return h_i, z_i and the log-determinant of both."""
        y, log_det = self.steps(h)
        passed, code = self._split(y)
        z, of_norm = self.code_norm(code)
        return passed, z, log_det + of_norm

    def inverse(self, passed: Tensor, z: Tensor) -> Tensor:
        """Find h_{i-1} of h_i and z_i."""
        y = torch.cat([passed, self.code_norm.inverse(z)], dim=1)
        if self.flatten is not None:
            y = y.flatten(1)
        return self.steps.inverse(y)

    def initialize(self, h: Tensor) -> Tensor:
        """Set what depends on data from `h`; return h_i."""
        passed, code = self._split(self.steps.initialize(h))
        self.code_norm.initialize(code)
        return passed


class ClassPrior(nn.Module):
    """Mixture of Gaussians, a mode for each class, all of one weight (section 3.2).

    Parameters
    ----------
    n_classes : int
        Number of modes K.
    shape : tuple of int
        Shape of codes.
    with_scales : bool, default=False
        Whether modes have standard deviations besides means, which start as 1; else they are 1.
    """

    def __init__(self, n_classes: int, shape: Shape, *, with_scales: bool = False) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.zeros(n_classes, *shape))
        self.log_scales = nn.Parameter(torch.zeros(n_classes, *shape)) if with_scales else None

    def log_probs(self, z: Tensor, training: bool) -> Tensor:
        """Log densities (n, K) of codes (n, ...) under each mode."""
        if self.log_scales is None:
            modes = [standard_normal_log_prob(z - mean, training) for mean in self.means]
        else:
            modes = [
                standard_normal_log_prob((z - mean) * (-log_scale).exp(), training)
                - row_sums(log_scale[None], training)
                for mean, log_scale in zip(self.means, self.log_scales, strict=True)
            ]
        return torch.stack(modes, dim=1)

    def sample(self, places: Tensor) -> Tensor:
        """Draw codes (n, ...) of the modes at places (n,)."""
        means = self.means[places]
        noise = draws.randn_like(means)
        return means + (noise if self.log_scales is None else noise * self.log_scales[places].exp())


class Flow(nn.Module):
    """A flow with one or several scales; the codes are standard normal.

    Parameters
    ----------
    shape : tuple of int
        (d,) or (C, H, W) of rows.
    steps : Steps
        The steps of each scale.
    n_scales : int, default=1
        Number of scales. Rows of shape (d,) have one.
    n_classes : int or None, default=None
        Number of modes of the last scale's codes, whose means are learned; None: they are standard
        normal as all others.
    modes_of_all : bool, default=False
        Whether the codes of all scales have modes, and these standard deviations that are learned.

    Raises
    ------
    ValueError
        If height or width cannot be halved so often.
    """

    def __init__(
        self,
        shape: Shape,
        steps: Steps,
        *,
        n_scales: int = 1,
        n_classes: int | None = None,
        modes_of_all: bool = False,
    ) -> None:
        super().__init__()
        if len(shape) == 3:
            check_divisible(shape, 2**n_scales, f"n_scales={n_scales}")
        self.shape, self.n_scales, scales = shape, n_scales, []
        for i in range(n_scales):
            scales.append(Scale(shape, steps, is_last=i == n_scales - 1))
            shape = scales[-1].passed_shape
        self.scales: Any = nn.ModuleList(scales)
        self.prior, self.early_priors = None, nn.ModuleList()
        if n_classes is not None:
            *early, last = (
                ClassPrior(n_classes, scale.code_shape, with_scales=modes_of_all)
                for scale in scales[0 if modes_of_all else -1 :]
            )
            self.prior, self.early_priors = last, nn.ModuleList(early)
        if steps.kind == "conv":
            # CPUs are far faster with channels last.
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def _priors(self) -> list[ClassPrior | None]:
        """Modes of each scale's codes; None: these are standard normal."""
        early: list[Any] = list(self.early_priors) or [None] * (self.n_scales - 1)
        return [*early, self.prior]

    def parameters_of_last(self, n: int) -> list[nn.Parameter]:
        """Parameters of the last `n` scales and of the modes of their codes."""
        parts = [*self.scales[-n:], *(prior for prior in self._priors[-n:] if prior is not None)]
        return [p for part in parts for p in part.parameters()]

    def _as_input(self, x: Tensor) -> Tensor:
        """Rows (n, d) in the flow's shape."""
        return x.unflatten(1, self.shape) if len(self.shape) == 3 else x

    def encode(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Codes z_i of rows (n, d), each (n, ...), and the log-determinants of the scales."""
        h, codes, log_dets = self._as_input(x), [], []
        for scale in self.scales:
            h, z, log_det = scale(h)
            codes.append(z)
            log_dets.append(log_det)
        return codes, log_dets

    def decode(self, codes: Sequence[Tensor]) -> Tensor:
        """Rows (n, d) of codes."""
        h = codes[-1][:, :0]
        for scale, z in zip(reversed(self.scales), reversed(codes), strict=True):
            h = scale.inverse(h, z)
        return h.flatten(1)

    def mixed(self, early: Tensor, late: Tensor, n_late: int) -> Tensor:
        """Rows (n, d) with the codes of `late` (n, d) at the last scales, of `early` elsewhere."""
        return self.decode(self.encode(early)[0][:-n_late] + self.encode(late)[0][-n_late:])

    def contributions(self, x: Tensor) -> Tensor:
        """Contributions c_i, in nats, (n, n_scales), of rows (n, d).

        With modes they are those given the codes of earlier scales, so that they add up.
        """
        parts, contributions = self._parts(x), []
        # Log probabilities of the modes, given the codes of earlier scales.
        log_weights: Tensor | float = -math.log(max(part.shape[1] for part in parts))
        for part in parts:
            if part.shape[1] == 1:
                contributions.append(part[:, 0])
                continue
            weighted = log_weights + part
            contributions.append(torch.logsumexp(weighted, dim=1))
            log_weights = weighted - contributions[-1][:, None]
        return torch.stack(contributions, dim=1)

    def class_log_probs(self, x: Tensor) -> Tensor:
        """Log densities (n, K), in nats, of rows (n, d) under each class's mode."""
        *earlier, modes = self._parts(x)
        return modes + torch.stack(earlier).sum(dim=0) if earlier else modes

    def _parts(self, x: Tensor) -> list[Tensor]:
        """Contributions of the scales, (n, 1); under each mode, (n, K), where there are some."""
        parts = []
        for z, log_det, prior in zip(*self.encode(x), self._priors, strict=True):
            if prior is None:
                log_probs = standard_normal_log_prob(z, self.training)[:, None]
            else:
                log_probs = prior.log_probs(z, self.training)
            parts.append(log_probs + (log_det[:, None] if log_det.ndim else log_det))
        return parts

    def log_prob(self, x: Tensor) -> Tensor:
        """Log densities (n,), in nats, of rows (n, d)."""
        return self.contributions(x).sum(dim=1)

    def sample(self, n: int) -> Tensor:
        """Draw `n` rows (n, d)."""
        like = next(self.parameters())
        shapes = [scale.code_shape for scale in self.scales]
        draw = [draws.randn(n, *s, device=like.device, dtype=like.dtype) for s in shapes]
        if self.prior is not None:
            n_classes = len(self.prior.means)
            places = draws.randint(n_classes, (n,), device=like.device)
            for i, prior in enumerate(self._priors):
                draw[i] = draw[i] if prior is None else prior.sample(places)
        return self.decode(draw)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set what depends on data from rows (n, d): all layers normalise them."""
        h = self._as_input(x)
        for scale in self.scales:
            h = scale.initialize(h)


def standard_normal_log_prob(z: Tensor, training: bool) -> Tensor:
    """Log densities (n,) of codes (n, ...)."""
    # The squares of codes far from 0 do not overflow in float64.
    squares = (z if training else precise(z)).square()
    return -0.5 * (row_sums(squares, training) + z[0].numel() * _LOG_2PI)


class PatchFlow(nn.Module):
    """A flow of square patches: an image's log density is the sum of its patches' (S2.1).

    Parameters
    ----------
    shape : (int, int, int)
        C, H and W of images.
    patch_size : int
        Height and width of patches, which do not overlap.
    steps : Steps
        The steps of each scale of the flow of patches.
    n_scales : int, default=1
        Number of its scales.

    Raises
    ------
    ValueError
        If patches do not fill the image, or cannot be halved so often.
    """

    def __init__(self, shape: Shape, patch_size: int, steps: Steps, *, n_scales: int = 1) -> None:
        super().__init__()
        if patch_size % 2**n_scales:
            raise ValueError(
                f"patch_size={patch_size} must be a multiple of {2**n_scales}: with "
                f"n_scales={n_scales} patches are halved so often. Choose one that divides height "
                "and width of the images."
            )
        check_divisible(shape, patch_size, f"patch_size={patch_size}")
        self.shape, self.patch_size, self.n_scales = shape, patch_size, n_scales
        self.flow = Flow((shape[0], patch_size, patch_size), steps, n_scales=n_scales)
        self.n_patches = shape[1] * shape[2] // patch_size**2

    def patches(self, x: Tensor) -> Tensor:
        """Patches (n * n_patches, d_patch) of rows (n, d)."""
        channels, height, width = self.shape
        size = self.patch_size
        x = x.view(len(x), channels, height // size, size, width // size, size)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(len(x) * self.n_patches, -1)

    def images(self, patches: Tensor) -> Tensor:
        """Rows (n, d) of patches (n * n_patches, d_patch)."""
        channels, height, width = self.shape
        size = self.patch_size
        x = patches.view(-1, height // size, width // size, channels, size, size)
        return x.permute(0, 3, 1, 4, 2, 5).flatten(1)

    def contributions(self, x: Tensor) -> Tensor:
        """Contributions of the scales, in nats, (n, n_scales), of rows (n, d)."""
        parts = self.flow.contributions(self.patches(x))
        return parts.unflatten(0, (len(x), self.n_patches)).sum(dim=1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log densities (n,), in nats, of rows (n, d)."""
        return self.contributions(x).sum(dim=1)

    def mixed(self, early: Tensor, late: Tensor, n_late: int) -> Tensor:
        """Rows (n, d) of patches with the codes of others at the last scales."""
        return self.images(self.flow.mixed(self.patches(early), self.patches(late), n_late))

    def parameters_of_last(self, n: int) -> list[nn.Parameter]:
        """Parameters of the last `n` scales."""
        return self.flow.parameters_of_last(n)

    def encode(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Codes of all patches of rows (n, d), and the log-determinants of the scales."""
        return self.flow.encode(self.patches(x))

    def decode(self, codes: Sequence[Tensor]) -> Tensor:
        """Rows (n, d) of codes of all their patches."""
        return self.images(self.flow.decode(codes))

    def sample(self, n: int) -> Tensor:
        """Draw `n` rows (n, d)."""
        return self.images(self.flow.sample(n * self.n_patches))

    def initialize(self, x: Tensor) -> None:
        """Set what depends on data from rows (n, d)."""
        self.flow.initialize(self.patches(x))


def check_divisible(shape: Shape, divisor: int, cause: str) -> None:
    """Raise ValueError unless `divisor` divides height and width; name the next sizes that fit."""
    _, height, width = shape
    if height % divisor == 0 and width % divisor == 0:
        return
    up = [divisor * -(-n // divisor) for n in (height, width)]
    down = [max(divisor, divisor * (n // divisor)) for n in (height, width)]
    sizes = " or ".join(f"{h} x {w}" for h, w in sorted({tuple(down), tuple(up)}))
    name, _, value = cause.partition("=")
    lower = f", or lower {name}" if int(value) > 1 else ""
    raise ValueError(
        f"{cause} needs images whose height and width are multiples of {divisor}; "
        f"image_shape={tuple(shape)} has {height} x {width}. Pad or crop images to {sizes}{lower}."
    )
