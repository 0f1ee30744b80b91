"""Pictures of detectors: energies, training, what is unusual in rows, images and sounds, and where.

The classes follow scikit-learn's displays: ``from_estimator`` computes and draws, the constructor
takes what was computed, ``plot`` draws it again, and what was drawn is in attributes that end in
an underscore. They need matplotlib, which the extra "plot" installs.
"""

from ._anomaly_map import AnomalyMapDisplay
from ._contact_sheet import ContactSheetDisplay
from ._course import TrainingDisplay
from ._energy import EnergyDisplay
from ._explanation import ExplanationDisplay
from ._localization import LocalizationDisplay
from ._reconstruction import ReconstructionDisplay
from ._samples import SamplesDisplay
from ._scales import ScaleDisplay
from ._series import SeriesDisplay
from ._spectrogram import SpectrogramDisplay

__all__ = [
    "AnomalyMapDisplay",
    "ContactSheetDisplay",
    "EnergyDisplay",
    "ExplanationDisplay",
    "LocalizationDisplay",
    "ReconstructionDisplay",
    "SamplesDisplay",
    "ScaleDisplay",
    "SeriesDisplay",
    "SpectrogramDisplay",
    "TrainingDisplay",
]
