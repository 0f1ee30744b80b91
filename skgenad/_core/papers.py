"""``from_paper``, which makes detectors with the settings of a paper's experiments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from .parts import Part, Slot, copied

__all__ = ["FromPaper"]


class FromPaper:
    """``from_paper`` of a detector with `_papers`, its experiments in the order of the paper.

    A detector's own ``from_paper`` has the docstring that says what the paper leaves open, and
    calls this one.
    """

    _papers: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    _parts: ClassVar[dict[str, Slot]]

    @classmethod
    def from_paper(cls, experiment: str | None = None, **parameters: Any) -> Self:
        """Make a detector with the paper's settings of an experiment.

        Parameters
        ----------
        experiment : str, default=None
            Which of the paper's experiments; None is the first.
        **parameters
            Parameters that replace the paper's. Where one is an object of the same class as the
            paper's, its fields that are None stay the paper's; ``set_params`` replaces it whole.

        Returns
        -------
        detector : object
            The detector, not fitted.

        Raises
        ------
        ValueError
            If the experiment is none of those that are here.
        """
        experiment = next(iter(cls._papers)) if experiment is None else experiment
        if experiment not in cls._papers:
            raise ValueError(
                f"experiment={experiment!r} is none of those here: {', '.join(cls._papers)}."
            )
        settings = {
            # Parts are copied: what is done to those of a detector must not change the table.
            name: copied(value)
            for name, value in cls._paper_settings(experiment, parameters).items()
        }
        given = {
            name: cls._merged(name, value, settings.get(name)) for name, value in parameters.items()
        }
        return cls(**{**settings, **given})

    @classmethod
    def _paper_settings(cls, experiment: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Look up the settings of an experiment; a detector whose settings vary overrides it."""
        return dict(cls._papers[experiment])

    @classmethod
    def _merged(cls, name: str, given: Any, papers: Any) -> Any:
        """Fill a given part with the fields of the paper's part, if both are of one class."""
        slot = getattr(cls, "_parts", {}).get(name)
        if slot is None or given is None:
            return given
        part, other = slot.read(given), slot.read(papers)
        if not isinstance(part, Part) or type(part) is not type(other):
            return given
        merged = part.filled(other)
        # What is given may leave fields of the paper's without effect, which the fit would refuse.
        for field in getattr(part, "_moot", ()):
            setattr(merged, field, getattr(part, field))
        return merged
