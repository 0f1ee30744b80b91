"""Gradient steps on a GPU, recorded once as a CUDA graph and replayed.

A step with chains is thousands of small kernels, and asking for each of them takes longer than it
runs. A graph asks for all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from skgenad._tensors.seeds import generator_on

Step = Callable[[Tensor], dict[str, Tensor]]

# Steps that are taken before one is recorded: in the first ones libraries choose algorithms, and
# optimisers allocate their state.
_WARM_UP = 3


class Stepper:
    """Takes gradient steps; on a GPU it records one as soon as that is possible, and replays it.

    Parameters
    ----------
    step : callable
        Maps a batch to a dict of detached scalars, after a step of the optimisers.
    optimizers : iterable of Optimizer
        Those that the step moves. Their learning rates may be set between steps.
    is_steady : callable
        Whether the step, from now on, launches the same kernels on the same tensors whatever
        the batch holds. Asked before each step until it says so.

    Attributes
    ----------
    is_recorded : bool
        Whether steps are replayed by now.
    """

    def __init__(
        self,
        step: Step,
        optimizers: Iterable[torch.optim.Optimizer],
        is_steady: Callable[[], bool],
    ) -> None:
        self._step, self._is_steady = step, is_steady
        self._groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self._states = [optimizer.state for optimizer in optimizers]
        self._n_eager = 0
        self.is_recorded = False

    def __call__(self, batch: Tensor) -> dict[str, Tensor]:
        """Take a step on a batch, whose size is the same each time."""
        if not self.is_recorded and batch.is_cuda:
            if self._n_eager >= _WARM_UP and self._is_steady():
                self._record(batch)
            self._n_eager += 1
        return self._replay(batch) if self.is_recorded else self._step(batch)

    def _record(self, batch: Tensor) -> None:
        self._free_optimizers_of_host(batch.device)
        self._batch = batch.clone()
        self._graph = torch.cuda.CUDAGraph()
        # A replay draws on: it must know the generator, which torch else keeps for its own one.
        self._graph.register_generator_state(generator_on(batch.device))
        # Only this thread is watched for what a graph cannot hold: others may fit on the same GPU.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._parts = self._step(self._batch)
        self.is_recorded = True

    def _free_optimizers_of_host(self, device: torch.device) -> None:
        """Move to the device what optimisers read from the host: a graph would keep its value."""
        for state in self._states:
            for moments in state.values():
                if "step" in moments:
                    moments["step"] = moments["step"].to(device)
        self._rates = [torch.as_tensor(group["lr"], device=device) for group in self._groups]
        for group, rate in zip(self._groups, self._rates, strict=True):
            group["lr"] = rate
            if "capturable" in group:
                group["capturable"] = True

    def _replay(self, batch: Tensor) -> dict[str, Tensor]:
        for group, rate in zip(self._groups, self._rates, strict=True):
            if group["lr"] is not rate:  # a callback has set a number
                rate.fill_(group["lr"])
                group["lr"] = rate
        self._batch.copy_(batch)
        self._graph.replay()
        return {name: value.clone() for name, value in self._parts.items()}
