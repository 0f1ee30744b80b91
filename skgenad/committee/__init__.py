"""Detectors made of detectors, which are imported from :mod:`skgenad`."""

__all__: list[str] = []
