"""A training step of Glow, and of the same architecture made of normflows' pieces."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from skgenad import Glow
from skgenad._core.loop import Stage
from skgenad._core.training import run_stage


class FlowStep:
    """The package's own step: module, stage and loop of ``Glow`` on random pixels.

    The learning rate is tiny: hundreds of steps leave the weights about where they are.
    """

    def __init__(self, x: Tensor, shape: tuple[int, int, int], **parameters: Any) -> None:
        self.rows = x
        # normflows' couplings have no normalisation inside.
        settings = {"learning_rate": 1e-6, "validation_fraction": 0.0, "coupling_norm": False}
        settings |= parameters
        self.detector = Glow(image_shape=shape, random_state=0, **settings)
        self.module = self.detector._make_module(x.shape[1]).to(x.device)
        self.module.prepare(x, None)
        self.stage: Stage = self.detector._stages(self.module)[0]

    def run(self, n_steps: int) -> None:
        """Run `n_steps` through the training loop, as `fit` does."""
        stage = dataclasses.replace(self.stage, n_steps=n_steps)
        run_stage(self.module, stage, self.rows, batch_size=self.detector.batch_size)

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(p.numel() for p in self.module.parameters())


class NormflowsStep:
    """normflows' multi-scale flow as its documentation builds it, with independent Gaussian codes.

    Its Gaussians have a mean and a deviation for each number of a code, as our codes'
    normalisation does.
    """

    def __init__(self, of: FlowStep) -> None:
        import normflows as nf

        glow = of.detector
        channels, height, width = self.shape = glow.image_shape
        n_scales = glow.n_scales
        self.x = of.rows[: glow.batch_size]
        flows, merges, codes = [], [], []
        # From the last scale to the first: normflows maps codes to data.
        for i in reversed(range(n_scales)):
            n = channels * 2 ** (i + 2)
            size = (height // 2 ** (i + 1), width // 2 ** (i + 1))
            is_last = i == n_scales - 1
            steps = [nf.flows.GlowBlock(n, glow.hidden) for _ in range(glow.n_couplings)]
            flows.append([*steps, nf.flows.Squeeze()])
            codes.append(nf.distributions.DiagGaussian((n if is_last else n // 2, *size)))
            if not is_last:
                merges.append(nf.flows.Merge())
        self.model = nf.MultiscaleFlow(codes, flows, merges, class_cond=False).to(of.rows.device)
        self.optimizer = torch.optim.Adamax(
            self.model.parameters(), lr=1e-6, weight_decay=glow.weight_decay
        )
        with torch.no_grad():  # activation normalisation starts from the first batch
            self.model.log_prob(self._noisy(), None)

    def _noisy(self) -> Tensor:
        x = self.x.view(-1, *self.shape)
        return (255 * x + torch.rand_like(x)) / 256 - 0.5

    def run(self, n_steps: int) -> None:
        """Run `n_steps` of a plain loop."""
        for _ in range(n_steps):
            self.optimizer.zero_grad()
            loss = self.model.forward_kld(self._noisy())
            loss.backward()
            self.optimizer.step()

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(p.numel() for p in self.model.parameters())
