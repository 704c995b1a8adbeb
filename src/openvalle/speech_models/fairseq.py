"""Checkpoints of speech encoders under fairseq's names -> transformers' names. The weights are the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from openvalle.errors import ModelError

# In order; the first pattern that matches a name renames it.
RENAMES = [
    (r"mask_emb$", "masked_spec_embed"),
    (r"feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"feature_extractor\.conv_layers\.(\d+)\.2\.(?:1\.)?", r"feature_extractor.conv_layers.\1.layer_norm."),
    (r"post_extract_proj\.", "feature_projection.projection."),
    (r"layer_norm\.", "feature_projection.layer_norm."),
    (r"encoder\.pos_conv\.0\.weight_g", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"encoder\.pos_conv\.0\.weight_v", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (r"(encoder\.layers\.\d+)\.self_attn\.relative_attention_bias\.", r"\1.attention.rel_attn_embed."),
    (r"(encoder\.layers\.\d+)\.self_attn\.grep_linear\.", r"\1.attention.gru_rel_pos_linear."),
    (r"(encoder\.layers\.\d+)\.self_attn\.grep_a$", r"\1.attention.gru_rel_pos_const"),
    (r"(encoder\.layers\.\d+)\.self_attn\.", r"\1.attention."),
    (r"(encoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.layer_norm."),
    (r"(encoder\.layers\.\d+)\.fc1\.", r"\1.feed_forward.intermediate_dense."),
    (r"(encoder\.layers\.\d+)\.fc2\.", r"\1.feed_forward.output_dense."),
]


# What reading a file that is no checkpoint may raise.
BROKEN = (OSError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AssertionError, AttributeError)


def rename(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors under `prefix`, by transformers' names."""
    return {_rename(key.removeprefix(prefix)): value for key, value in state.items() if key.startswith(prefix)}


def _rename(name: str) -> str:
    for pattern, replacement in RENAMES:
        changed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            return changed
    return name


def read_state(path: str | Path, what: str) -> dict[str, Tensor]:
    """Return the tensors of a PyTorch checkpoint, read without running any code that it may hold.

    `ModelError` if it is missing, or is not made of tensors alone.
    """
    from pickle import UnpicklingError

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"there is no {what} at {path}", "check the path") from None
    except (*BROKEN, UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path} cannot be read as {what} ({reason})", "fetch the file again") from None
    state = state.get("model", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} is no {what}: it does not hold tensors by name", "fetch the file again")
    return state


def load_part(module: torch.nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Load a module's own tensors, all of them; `ModelError` if one is missing or has another shape."""
    own = {name: state[name] for name in module.state_dict() if name in state}
    missing = [name for name in module.state_dict() if name not in own and not name.endswith("num_batches_tracked")]
    # Masked training needs this vector and listening does not.
    missing = [name for name in missing if name != "masked_spec_embed"]
    if missing:
        raise ModelError(f"{path} lacks {missing[0]} and {len(missing) - 1} more tensors", "it is another model's file")
    try:
        module.load_state_dict(own, strict=False)
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit ({str(error).splitlines()[-1].strip()})", "fetch it again") from None
