"""Where the language models' training data is: prepared folders, and how much is drawn from each."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from openvalle.config import Config
from openvalle.data.shards import JoinedShards, Shards, TokenShards
from openvalle.errors import ConfigError, ModelError


class Source(Config):
    """One of several folders of a run."""

    folder: Path = Field(..., description="folder made by `openvalle prepare`")
    share: float | None = Field(
        None, gt=0, le=1, description="of the draws; without, its speakers count among all others by their hours"
    )


Data = Path | tuple[Source, ...]


def list_folders(data: Data) -> list[Path]:
    """Return the folders of a run's data."""
    return [data] if isinstance(data, Path) else [source.folder for source in data]


def list_shares(data: Data) -> list[float] | None:
    """Return how much is drawn from each folder, None if they count as one; `ConfigError` if only some say."""
    if isinstance(data, Path):
        return None
    said = [source.share for source in data if source.share is not None]
    if not data or 0 < len(said) < len(data):
        raise ConfigError("some folders of `data` have no share", "give a share to every folder, or to none")
    return said or None


def open_shards(data: Data, *splits: str) -> Shards:
    """Return the tokens of the splits in all folders; `ModelError` unless each folder holds one of them."""
    found = [TokenShards.open(folder, splits) for folder in list_folders(data)]
    return found[0] if isinstance(data, Path) else JoinedShards(found)


def open_unseen(data: Data, *splits: str) -> Shards:
    """Return the tokens of the splits in those folders that hold some; `ModelError` if none does."""
    found, missing = [], None
    for folder in list_folders(data):
        try:
            found.append(TokenShards.open(folder, splits))
        except ModelError as error:
            TokenShards.open(folder)  # it is the split that is missing, or this raises what is wrong
            missing = error
    if missing is not None and not found:
        raise missing
    return found[0] if isinstance(data, Path) else JoinedShards(found)
