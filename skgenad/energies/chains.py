"""Chains and replay buffers, as objects that the detectors with chains take as parameters.

A step of a chain is ``x <- x - step_size * dE/dx + noise * eps``, with step size and noise as two
independent numbers. The visible chain walks among rows, the latent chain among latent vectors.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

from skgenad._core.checks import Interval, StrOptions, check_bounds
from skgenad._core.parts import Part, Slot

__all__ = ["Chain", "Replay"]


class Chain(Part):
    """A Langevin chain that turns rows or latent vectors into negatives.

    A field left None is the detector's own, so that ``Chain(noise=0.1)`` changes the noise alone.
    The detectors' docstrings have their own values, and say which fields they have no use for:
    those raise.

    Parameters
    ----------
    steps : int, default=None
        Number of steps, at least 0.
    step_size : float or "auto", default=None
        Factor, at least 0, on the gradient. "auto", for visible chains alone, is the detector's own
        rule.
    noise : float or "auto", default=None
        Standard deviation, at least 0, of the Gaussian added in each step; for visible chains in
        standardised units, and "auto" there is 0.3 for tables and 0.005 for images. With
        ``anneal=True`` that of the first step.
    gamma : float, default=None
        Factor, at least 0, on the log-probability of the perturbation in the chain's energy; for
        :class:`~skgenad.MPDR` alone.
    normalize : bool, default=None
        Whether the gradient of each row is divided by its Euclidean norm.
    clip : float, default=None
        Each component of the gradient is clamped to [-clip, clip]; > 0. None is no clipping, but in
        ``from_paper`` that of the paper.
    anneal : bool, default=None
        Whether the noise of step t = 0, 1, ... is ``noise / (1 + t)``. Chains then end nearer to
        the modes of the density.
    bounds : "data", "none" or (float, float), default=None
        What a visible chain is clamped to: "data" is the range of each training column widened by
        1 on either side, for images [0, 1]; "none" is no bounds; or two numbers. In the units of
        training: a column's standard deviation, or those of X with ``standardize=False``.
    metropolis : bool, default=None
        Whether steps are accepted or rejected by Metropolis-Hastings, so that the limit of the
        chain is exact for any step size. What lies beyond the bounds is then rejected and not
        clamped. It needs ``noise > 0`` and a Euclidean space, and goes with neither `clip` nor
        `normalize`.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import EBM
    >>> from skgenad.energies import Chain
    >>> X = np.random.RandomState(0).randn(100, 3)
    >>> detector = EBM(visible_chain=Chain(20, noise=0.2), max_steps=20).fit(X)
    >>> detector.set_params(visible_chain__steps=5)
    EBM(max_steps=20, visible_chain=Chain(noise=0.2, steps=5))
    """

    _parameter_constraints: ClassVar[dict] = {
        "steps": [Interval(Integral, 0, None, closed="left"), None],
        "step_size": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"}), None],
        "noise": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"}), None],
        "gamma": [Interval(Real, 0, None, closed="left"), None],
        "normalize": ["boolean", None],
        "clip": [Interval(Real, 0, None, closed="neither"), None],
        "anneal": ["boolean", None],
        "bounds": [StrOptions({"data", "none"}), tuple, list, None],
        "metropolis": ["boolean", None],
    }

    def __init__(
        self,
        steps: int | None = None,
        *,
        step_size: float | str | None = None,
        noise: float | str | None = None,
        gamma: float | None = None,
        normalize: bool | None = None,
        clip: float | None = None,
        anneal: bool | None = None,
        bounds: str | tuple[float, float] | None = None,
        metropolis: bool | None = None,
    ) -> None:
        self.steps = steps
        self.step_size = step_size
        self.noise = noise
        self.gamma = gamma
        self.normalize = normalize
        self.clip = clip
        self.anneal = anneal
        self.bounds = bounds
        self.metropolis = metropolis

    def _validate_params(self) -> None:
        super()._validate_params()
        check_bounds(self.bounds)
        for field, why in self._moot.items():
            if getattr(self, field):
                raise ValueError(
                    f"{field}={getattr(self, field)!r} in {self!r} would be ignored: {why}. Leave "
                    "it None."
                )

    @property
    def _moot(self) -> dict[str, str]:
        """Fields that would change nothing beside the others, and why."""
        fields = {}
        if self.steps == 0:
            fields["gamma"] = "a chain of no steps has no energy"
        if self.noise == 0:
            fields["anneal"] = "with noise=0 there is none to anneal"
        if self.step_size == 0:
            fields["clip"] = fields["normalize"] = "with step_size=0 no gradient is followed"
        return fields


class Replay(Part):
    """A buffer of states in which earlier chains ended, for later ones to go on from.

    Parameters
    ----------
    size : int, default=None
        Number of states that are kept, at least 0; the oldest are overwritten. 0 is no buffer.
        None: the detector's own.
    ratio : float, default=None
        Share, in [0, 1], of chains that go on from the buffer; the others start afresh. None: the
        detector's own.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import MPDR
    >>> from skgenad.energies import Replay
    >>> MPDR(replay=Replay(10_000, ratio=0.9))
    MPDR(replay=Replay(ratio=0.9, size=10000))
    """

    _parameter_constraints: ClassVar[dict] = {
        "size": [Interval(Integral, 0, None, closed="left"), None],
        "ratio": [Interval(Real, 0, 1, closed="both"), None],
    }

    def __init__(self, size: int | None = None, *, ratio: float | None = None) -> None:
        self.size = size
        self.ratio = ratio


def chain_slot(default: Chain, *, without: tuple[str, ...] = ()) -> Slot:
    """Slot of a chain; switches that `default` says nothing about are off."""
    off = Chain(normalize=False, anneal=False, metropolis=False)
    return Slot(default.filled(off), without=without)


def replay_slot(size: int, ratio: float = 0.95) -> Slot:
    """Slot of a replay buffer."""
    return Slot(Replay(size, ratio=ratio))


def replay_of(replay: Any, given: Replay | None, sampling: str | None = None) -> tuple[int, float]:
    """Size and ratio of a buffer; raise ValueError for what was asked of none.

    Parameters
    ----------
    replay : Replay
        With the detector's own values filled in.
    given : Replay or None
        What the constructor was given.
    sampling : str, default=None
        Where chains start: with "cd" never in a buffer.
    """
    fields = () if given is None else (given.size, given.ratio)
    if sampling == "cd" and any(field is not None for field in fields):
        raise ValueError(
            f"replay={given!r} would be ignored: with sampling='cd' chains start at the rows. "
            "Leave it None."
        )
    if replay.size == 0 and given is not None and given.ratio is not None:
        raise ValueError(
            f"ratio={given.ratio} in replay={given!r} would be ignored: a buffer of the size 0 is "
            "none. Leave it None, or give a size."
        )
    if replay.ratio == 0 and given is not None and given.size:
        raise ValueError(
            f"size={given.size} in replay={given!r} would be ignored: with ratio=0 no chain goes "
            "on from the buffer. Leave it None, or give a ratio above 0."
        )
    return replay.size, replay.ratio
