"""Detectors that compare a row with the training rows near it; imported from :mod:`skgenad`."""

__all__: list[str] = []
