"""Let the built-in voices speak, and write the page on which they can be heard: docs/listen.md (`make listen`).

python tools/listen_page.py [--out docs] [--seed 0]. One seed, none chosen: what the model says is what the page has.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from openvalle import Synthesizer
from openvalle.apps.plot import plot_speech
from openvalle.hub import Kind, list_names

TEXTS = {
    "arthur": "When the sunlight strikes raindrops in the air, they act as a prism and form a rainbow.",
    "clara": "I never said that it would be easy. I only said that it would be worth it!",
    "default": "The train from platform 4 leaves at 10:35 a.m., and Dr. Hill paid $12.50 for her ticket.",
    "edgar": "Would you like tea, coffee, or perhaps a glass of cold water?",
    "ella": "It was raining when we left the house and it was raining when we came back but nobody seemed to mind.",
    "second": "Far away, behind the hills, a dog barked twice; then all was quiet again.",
    "victor": "A neural network has never lived here, and yet it reads these words aloud.",
    "mei": "雨后的空气很清新，孩子们在院子里跑来跑去。",
    "bo": "我们明天早上九点从北京出发，下午三点到上海。",
    "hana": "昨日の夜、窓の外で猫が静かに鳴いていました。",
    "ken": "この電車は十時三十五分に出発します。",
}
# Voices in languages that are not their own.
FOREIGN = {
    "clara": ("zh", "今天天气很好，我们一起去公园散步吧。"),
    "victor": ("ja", "今日は天気がいいので、公園を散歩しましょう。"),
    "mei": ("en", "I have never been to London, but this is how I would sound there."),
    "ken": ("zh", "他的声音是日本人的，说的却是中文。"),
}
HEAD = """# Listen

The shipped model in its built-in voices, which belong to nobody, in their own languages and, at the end, in others.
`make listen` writes this page anew: seed {seed}, none chosen. How well strangers' voices are caught, and how many words
are wrong, is measured in the [README](../README.md#how-good-is-it). Each picture shows a wave with its words, and its
spectrum with the path of its phones.

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
    if unheard := set(list_names(Kind.VOICE)) - set(TEXTS):
        sys.exit(f"error: no text for {', '.join(sorted(unheard))}; add one to TEXTS")
    spoken = [(name, name, text, None) for name, text in TEXTS.items()]
    spoken += [(f"{name}-{language}", name, text, language) for name, (language, text) in FOREIGN.items()]
    for title, voice, text, language in spoken:
        speech = tts.say(text, voice=voice, seed=options.seed, language=language)
        speech.save(folder / f"{title}.mp3")
        plot_speech(speech, folder / f"{title}.jpg", f"{title}: {speech.seconds:.1f} s")
        page += f"## {title}\n\n> {text}\n\n[listen/{title}.mp3](listen/{title}.mp3), {speech.seconds:.1f} s\n\n"
        page += f"![waveform, mel spectrogram and phones of {title}](listen/{title}.jpg)\n\n"
    path = options.out / "listen.md"
    path.write_text(page.rstrip() + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
