"""Pack the pronunciation lexicons into the package's assets: python tools/pack_lexicons.py WHEEL...

    pip wheel --no-deps misaki==0.9.4 pocketsphinx==5.1.1 eng_to_ipa==0.0.2
    python tools/pack_lexicons.py misaki-0.9.4-*.whl pocketsphinx-5.1.1-*.whl eng_to_ipa-0.0.2-*.whl

JSON loses its white space, but for a line for each word, in order; everything is gzipped. NOTICE holds the digests of
what went in.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import zipfile
from pathlib import Path

ASSETS = Path(__file__).parent.parent / "src" / "openvalle" / "assets" / "lexicon"
SOURCES = {  # in the wheels -> here
    "misaki/data/us_gold.json": "us_gold.json.gz",
    "misaki/data/us_silver.json": "us_silver.json.gz",
    "pocketsphinx/model/en-us/cmudict-en-us.dict": "cmudict.dict.gz",
    "eng_to_ipa/resources/CMU_dict.json": "cmudict_stressed.json.gz",
}


def pack(entries: dict[str, object]) -> bytes:
    """Return the entries as JSON, each on a line of its own; they stand in the order of their words."""
    assert list(entries) == sorted(entries)
    lines = (
        ":".join(json.dumps(part, ensure_ascii=False, separators=(",", ":")) for part in entry)
        for entry in entries.items()
    )
    return ("{" + ",\n".join(lines) + "}").encode("utf-8")


def main(wheels: list[str]) -> None:
    """Write every lexicon that the wheels hold; print the digest of each file read."""
    for wheel in map(Path, wheels):
        print(f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.name}")
        with zipfile.ZipFile(wheel) as archive:
            for name in SOURCES.keys() & set(archive.namelist()):
                data = archive.read(name)
                print(f"{hashlib.sha256(data).hexdigest()}  {name} ({len(data):,} bytes)")
                if name.endswith(".json"):
                    data = pack(json.loads(data))
                (ASSETS / SOURCES[name]).write_bytes(gzip.compress(data, 9, mtime=0))


if __name__ == "__main__":
    main(sys.argv[1:])
