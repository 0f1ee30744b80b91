"""One MPDR-R step on images, as the package takes it and as plain torch code would."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from skgenad import MPDR
from skgenad.energies import Chain


class MultiplyAdds(TorchDispatchMode):
    """Counts the multiply-adds of matrix products and convolutions, backward passes included.

    torch's own counter cannot look into ``autograd.grad``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator and add what it cost."""
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out) // 2
        return out


class ConvStep:
    """The package's step on images of the paper's size: module, stage and chains of MPDR.

    The learning rate is small, since many steps are run with it.
    """

    def __init__(self, images: Tensor, **parameters: Any) -> None:
        settings = {
            "latent_chain": Chain(normalize=False),
            "learning_rate": 1e-6,
            "random_state": 0,
            "device": str(images.device),
        }
        self.detector = MPDR.from_paper("mnist", **settings | parameters)
        self.x = images.flatten(1)
        self.module = self.detector._make_module(self.x.shape[1]).to(images.device)
        self.module.prepare(self.x, None)
        self.module.train()
        self.stage = self.detector._stages(self.module)[-1]

    def step(self) -> None:
        """One gradient step."""
        optimizer = self.stage.optimizers["main"]
        optimizer.zero_grad()
        self.stage.objective(self.module, self.x)["loss"].backward()
        optimizer.step()


class PlainConvStep:
    """The same step as it is usually written.

    Images with channels first; every gradient of a chain by ``backward()``, which computes those of
    the parameters as well; data and negatives in two passes.
    """

    def __init__(self, of: ConvStep) -> None:
        self.settings, self.x = of.module.settings, of.x.view(-1, *of.detector.image_shape)
        nets = copy.deepcopy((of.module.base.net, of.module.manifolds[0]))
        plain = [part.net.to(memory_format=torch.contiguous_format) for part in _parts(nets)]
        self.encoder, self.decoder, self.f_e, self.f_d = plain
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-6)

    def _energy(self, x: Tensor) -> Tensor:
        z = F.normalize(self.encoder(x), dim=1)
        return (x - self.decoder(z)).square().mean(dim=(1, 2, 3))

    def step(self) -> None:
        """One gradient step."""
        s, x = self.settings, self.x
        latent, visible = s.latent, s.visible
        with torch.no_grad():
            code = F.normalize(self.f_e(x), dim=1)
            sigma = 0.05 + 0.25 * torch.rand(len(x), 1, device=x.device)
            noisy = F.normalize(code + sigma * torch.randn_like(code), dim=1)
        z = noisy
        for _ in range(latent.n_steps):
            z = z.detach().requires_grad_(True)
            y = self.f_d(z)
            offset = (F.normalize(self.f_e(y), dim=1) - noisy).square() / (2 * sigma**2)
            (self._energy(y).sum() + s.latent_gamma * offset.sum()).backward()
            g = z.grad - z * (z * z.grad).sum(dim=1, keepdim=True)
            z = z.detach() - latent.step_size * g + latent.noise * torch.randn_like(z)
            z = F.normalize(z)
        y = self.f_d(z).detach()
        for _ in range(visible.n_steps):
            y = y.detach().requires_grad_(True)
            self._energy(y).sum().backward()
            y = y.detach() - visible.step_size * y.grad + visible.noise * torch.randn_like(y)
            y = y.clamp(0, 1)
        self.optimizer.zero_grad()
        on_data, on_negatives = self._energy(x), self._energy(y)
        (on_data.mean() - on_negatives.mean() + on_negatives.square().mean()).backward()
        self.optimizer.step()


def _parts(nets: Any) -> list[Any]:
    return [part for net in nets for part in (net.encoder, net.decoder)]
