"""Pictures of detectors: energies, the course of training, images and where they are unusual.

The classes follow scikit-learn's displays: ``from_estimator`` computes and draws, the constructor
takes what was computed, ``plot`` draws it again, and what was drawn is in attributes that end in
an underscore. They need matplotlib, which the extra "plot" installs.
"""

from ._anomaly_map import AnomalyMapDisplay
from ._course import TrainingDisplay
from ._energy import EnergyDisplay
from ._reconstruction import ReconstructionDisplay
from ._samples import SamplesDisplay
from ._scales import ScaleDisplay

__all__ = [
    "AnomalyMapDisplay",
    "EnergyDisplay",
    "ReconstructionDisplay",
    "SamplesDisplay",
    "ScaleDisplay",
    "TrainingDisplay",
]
