"""Detectors of wholes by their parts, which are imported from :mod:`skgenad`."""

__all__: list[str] = []
