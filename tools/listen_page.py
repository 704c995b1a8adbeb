"""Let the built-in voices speak, and write the page on which they can be heard: docs/listen.md (`make listen`).

python tools/listen_page.py [--out docs] [--seed 0]. One seed, none chosen: what the model says is what the page has.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from openvalle import Synthesizer
from openvalle.apps.plot import plot_speech
from openvalle.hub import Kind, list_names

TEXTS = (
    "When the sunlight strikes raindrops in the air, they act as a prism and form a rainbow.",
    "I never said that it would be easy. I only said that it would be worth it!",
    "The train from platform 4 leaves at 10:35 a.m., and Dr. Hill paid $12.50 for her ticket.",
    "Would you like tea, coffee, or perhaps a glass of cold water?",
    "It was raining when we left the house and it was raining when we came back but nobody seemed to mind.",
    "Far away, behind the hills, a dog barked twice; then all was quiet again.",
    "A neural network has never lived here, and yet it reads these words aloud.",
)
HEAD = """# Listen

The shipped model in its built-in voices, which belong to nobody. `make listen` writes this page anew: seed {seed}, none
chosen. How well strangers' voices are caught, and how many words are wrong, is measured in the
[README](../README.md#how-good-is-it). Each picture shows a wave with its words, and its spectrum with the path of its
phones.

"""


def main() -> None:
    """Write the page, its sounds and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the page (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = options.out / "listen"
    folder.mkdir(parents=True, exist_ok=True)
    tts = Synthesizer.load()
    page = HEAD.format(seed=options.seed)
    for name, text in zip(list_names(Kind.VOICE), TEXTS, strict=False):
        speech = tts.say(text, voice=name, seed=options.seed)
        speech.save(folder / f"{name}.mp3")
        plot_speech(speech, folder / f"{name}.jpg", f"{name}: {speech.seconds:.1f} s")
        page += f"## {name}\n\n> {text}\n\n[listen/{name}.mp3](listen/{name}.mp3), {speech.seconds:.1f} s\n\n"
        page += f"![waveform, mel spectrogram and phones of {name}](listen/{name}.jpg)\n\n"
    path = options.out / "listen.md"
    path.write_text(page.rstrip() + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
