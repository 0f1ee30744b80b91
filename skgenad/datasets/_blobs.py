"""What collections in git repositories share: tables of their files, and names that find a set.

Such a collection is a table in this folder: a line per file, with its git blob id and its path in
the repository.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import resources


def read_blobs(table: str) -> list[tuple[str, str]]:
    """Return ``(path in the repository, git blob id)`` of every line of a table."""
    text = resources.files("skgenad.datasets").joinpath(table).read_text(encoding="utf-8")
    pairs = (line.split("\t") for line in text.splitlines())
    return [(path, blob) for blob, path in pairs]


def find_name(
    name: str, short_names: Mapping[str, set[str]], collection: str, list_names: str
) -> str:
    """Return the full name of the one data set meant by a name, whatever its case.

    Parameters
    ----------
    name : str
        As the user wrote it.
    short_names : mapping of str to set of str
        Full names, and the names in lower case by which each is found.
    collection : str
        What the collection is called in errors.
    list_names : str
        The function that lists its names, for errors.

    Returns
    -------
    str
        A key of `short_names`.

    Raises
    ------
    ValueError
        If no data set, or more than one, goes by that name; the message lists near ones.
    """
    wanted = name.lower()
    matches = [full for full, names in short_names.items() if wanted in names]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ValueError(f"{name!r} is ambiguous; choose from {', '.join(matches)}.")
    near = [full for full, names in short_names.items() if any(wanted in n for n in names)]
    every = {short: full for full, names in short_names.items() for short in names}
    near += [every[short] for short in difflib.get_close_matches(wanted, every, n=5)]
    hint = f" Did you mean {', '.join(list(dict.fromkeys(near))[:8])}?" if wanted and near else ""
    raise ValueError(f"{collection} has no data set {name!r}.{hint} {list_names}() names them all.")
