"""Training that ends by the clock."""

from __future__ import annotations

import time
from typing import Any

from skorch.callbacks import Callback

from skgenad._core.loop import StopStage


class Deadline(Callback):
    """Ends one stage at the first end of an epoch after a time.

    Parameters
    ----------
    seconds : float
        From when this object is made.
    stage : str
        Name of the stage; others run to their ends.
    """

    def __init__(self, seconds: float, stage: str) -> None:
        self.end, self.stage = time.monotonic() + seconds, stage

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Look at the clock."""
        if net.stage.name == self.stage and time.monotonic() > self.end:
            raise StopStage
