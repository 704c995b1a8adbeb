#!/bin/sh
# Prepared speech -> a model folder that `openvalle say --model` speaks with, after a given time of training.
# AR and NAR train at the same time; what they write goes on if the script is started again with the same folder.
#
#   tools/speedrun.sh 400 runs/speedrun data=data
#   tools/speedrun.sh SECONDS OUT [SETTING ...]      settings are for both networks, those of ar.* and nar.* for one
#
# OUT/model is the result; OUT/model-at-0.60 has the NAR model as it was before it was sharpened.
set -eu
seconds=$1 out=$2
shift 2
python=${PYTHON:-python3}
recipe=${RECIPE:-speedrun}
mkdir -p "$out"

"$python" -m openvalle train ar "$recipe" "$@" ar.loop.seconds="$seconds" --out "$out/ar" >"$out/ar.log" 2>&1 &
ar=$!
"$python" -m openvalle train nar "$recipe" "$@" nar.loop.seconds="$seconds" --out "$out/nar" >"$out/nar.log" 2>&1 &
nar=$!
trap 'kill "$ar" "$nar" 2>/dev/null || true' INT TERM
failed=
wait "$ar" || failed="ar $failed"
wait "$nar" || failed="nar $failed"
for part in $failed; do
    echo "training $part failed:" >&2
    tail -n 20 "$out/$part.log" >&2
done
[ -z "$failed" ]

"$python" -m openvalle train pack "$recipe" pack.ar="$out/ar" pack.nar="$out/nar" --out "$out/model"
for snapshot in "$out"/nar/at-*; do
    [ -d "$snapshot" ] || continue
    "$python" -m openvalle train pack "$recipe" pack.ar="$out/ar" pack.nar="$snapshot" \
        --out "$out/model-$(basename "$snapshot")"
done
