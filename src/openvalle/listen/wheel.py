"""Find data files inside installed packages without importing them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from openvalle.errors import MissingExtra, ModelError


def wheel_file(package: str, name: str, extra: str) -> Path:
    """Return the path of the file `name` in the folder of `package`.

    `MissingExtra` if the package is not installed, `ModelError` if it lacks the file. The package's own code is
    not run: some of them import half of the scientific stack for what a few lines do.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(package, extra)
    for folder in spec.submodule_search_locations:
        path = Path(folder) / name
        if path.is_file():
            return path
    raise ModelError(f"the installed {package} holds no {name}", f"reinstall it: pip install --force {package}")
