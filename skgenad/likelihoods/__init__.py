"""Detectors with a normalised density, which are imported from :mod:`skgenad`."""

__all__: list[str] = []
