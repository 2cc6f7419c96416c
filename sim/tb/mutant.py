"""Seeds a bug into a copy of a module, to see whether a test or proof finds it."""

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any


def mutant(
    module: ModuleType, *changes: tuple[str, str], parts: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Return the names of a module whose source has pieces of text replaced.

    Parameters
    ----------
    module : module
        It stays as it is.
    *changes : tuple of str
        What is replaced, and by what. It must be there once.
    parts : mapping, optional
        Names that the copy shall find instead of what it imports.

    Raises
    ------
    ValueError
        If it is not there once: the module has changed, and the bug with it.
    """
    source = inspect.getsource(module)
    for old, new in changes:
        if source.count(old) != 1:
            count = source.count(old)
            raise ValueError(f"{module.__name__} must have {old!r} once, not {count} times")
        source = source.replace(old, new)
    names: dict[str, Any] = {"__name__": module.__name__}
    exec(compile(source, f"changed {module.__name__}", "exec"), names)
    names.update(parts or {})
    return names
