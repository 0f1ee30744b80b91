"""When a stage of training ends early: by the loss of rows that are held out."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

from .checks import Interval
from .parts import Part

__all__ = ["EarlyStopping"]

# Share of the rows that is held out by a detector without a share of its own.
_SHARE = 0.1


class EarlyStopping(Part):
    """Ends stages of training that get no better, and goes back to their best epochs.

    A share of the training rows is held out. After each epoch, 50 gradient steps, the loss of a
    stage is computed on them; where it was lowest is where the stage ends, and after `patience`
    epochs without a new lowest one no more are run. What is judged are reconstruction errors and
    densities. The loss of an energy against its negatives is no measure of anything: the stages
    "energy" of :class:`~skgenad.MPDR` and :class:`~skgenad.NAE` run to their ends, and
    :class:`~skgenad.EBM`, which has no other stage, takes none of this, nor does
    :class:`~skgenad.GANomaly`, whose losses are against a network that is trained as well.

    Learning rates fall over all the steps of a stage, so that losses often fall until the last one:
    it pays where a stage overfits or is much longer than it need be. The guide's page on training
    has what was measured.

    Parameters
    ----------
    patience : int, default=10
        Epochs without a lower loss after which a stage ends, at least 1.
    validation_fraction : float, default=None
        Share of the training rows that is held out, in (0, 1): one row at least, and 4096 at most;
        of two rows, which are the fewest to train on, none. None: that of the detector's parameter
        of this name, where it has one, else 0.1.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import Autoencoder, EarlyStopping
    >>> X = np.random.RandomState(0).randn(200, 3)
    >>> detector = Autoencoder(stopping=EarlyStopping(patience=5), random_state=0).fit(X)
    >>> bool(detector.history_["validation_loss"].notna().all())
    True
    >>> detector.set_params(stopping__patience=3).stopping
    EarlyStopping(patience=3)
    """

    _parameter_constraints: ClassVar[dict] = {
        "patience": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
    }

    def __init__(self, patience: int = 10, *, validation_fraction: float | None = None) -> None:
        self.patience = patience
        self.validation_fraction = validation_fraction


def share_held_out(detector: Any) -> float:
    """Share of the rows that a detector holds out of its stages, to judge their epochs by."""
    stopping, own = detector.stopping, float(detector.validation_fraction)
    if stopping is None:
        return own
    has_own = "validation_fraction" in detector._get_param_names()
    if not has_own:
        return stopping.validation_fraction or _SHARE
    if stopping.validation_fraction is not None:
        raise ValueError(
            f"stopping={stopping!r}: {type(detector).__name__} has a parameter of its own for the "
            f"share. Write validation_fraction={stopping.validation_fraction} beside stopping, and "
            "leave that of EarlyStopping None."
        )
    if own == 0:
        raise ValueError(
            f"stopping={stopping!r} would be ignored: with validation_fraction=0 no rows are held "
            "out. Set validation_fraction=0.2, or stopping=None."
        )
    return own


def patience_of(detector: Any, stages: Any) -> int | None:
    """Epochs after which stages end; ValueError if none of them could."""
    if detector.stopping is None:
        return None
    detector.stopping._validate_params()
    if stages and all(stage.validate is None for stage in stages if stage.n_steps):
        names = ", ".join(repr(stage.name) for stage in stages)
        raise ValueError(
            f"stopping={detector.stopping!r} would be ignored: the loss of an energy against its "
            f"negatives measures nothing, and there are no other stages than {names}. Leave it "
            "None, and set max_steps."
        )
    return int(detector.stopping.patience)
