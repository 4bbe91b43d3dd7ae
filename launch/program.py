"""How a module of this package is started as a program: `python -m`, and its full name."""

from __future__ import annotations


def program(module: str) -> tuple[str, str]:
    """Arguments of Python that start a module of this package, such as ("-m", "launch.job") for `job`.

    The full name is made here alone, so that the package may be installed under another name.
    """
    return ("-m", f"{__name__.rpartition('.')[0]}.{module}")
