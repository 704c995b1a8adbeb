"""openvalle: VALL-E, VALL-E X, VALL-E R and VALL-E 2 in one toolkit."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openvalle.audio import Audio
    from openvalle.errors import UserError
    from openvalle.synth.synthesizer import Synthesizer
    from openvalle.synth.voice import Voice

__version__ = "0.1.0"
__all__ = ["Audio", "Synthesizer", "UserError", "Voice", "__version__"]

_HOMES = {
    "Audio": "openvalle.audio",
    "Synthesizer": "openvalle.synth.synthesizer",
    "UserError": "openvalle.errors",
    "Voice": "openvalle.synth.voice",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `import openvalle` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'openvalle' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
