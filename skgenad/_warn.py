"""Warnings that name the line of the user, however deep in the package they come from."""

from __future__ import annotations

import sys
import warnings

# What calls us back on a user's behalf: its lines would tell them as little as ours.
_NOT_THE_USER = frozenset({"skgenad", "sklearn", "skorch", "joblib", "torch", "contextlib"})


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn as from the innermost line outside this package and of what runs it.

    Parameters
    ----------
    message : str
        What happened, and what to write.
    category : type of Warning, default=UserWarning
        The kind, by which it can be filtered.
    """
    frame = sys._getframe(1)
    while _root(frame.f_globals) in _NOT_THE_USER and frame.f_back is not None:
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _root(names: dict[str, object]) -> str:
    return str(names.get("__name__")).partition(".")[0]
