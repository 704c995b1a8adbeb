"""espeak-ng as a program where only its library is there (wheel espeakng-loader): text on stdin -> a WAV file."""

from __future__ import annotations

import ctypes
import sys
import wave

import espeakng_loader

SYNCHRONOUS, UTF8, END = 2, 1, 0
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def main(path: str) -> None:
    espeak = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = espeak.espeak_Initialize(SYNCHRONOUS, 500, espeakng_loader.get_data_path().encode(), 0)
    sound = bytearray()

    @CALLBACK
    def keep(samples: ctypes.Array[ctypes.c_short], count: int, _: int) -> int:
        if samples and count:
            sound.extend(ctypes.string_at(samples, 2 * count))
        return 0

    espeak.espeak_SetSynthCallback(keep)
    espeak.espeak_SetVoiceByName(b"en-us")
    text = sys.stdin.read().encode()
    failed = espeak.espeak_Synth(text, len(text) + 1, 0, 1, END, UTF8, None, None)
    if failed or rate < 0:
        sys.exit(f"espeak-ng failed ({failed}, {rate})")
    with wave.open(path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(sound))


if __name__ == "__main__":
    main(sys.argv[1])
