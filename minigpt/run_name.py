"""Names for runs that people can tell apart and say aloud."""

import random
import re
import unicodedata
from datetime import date

_NAME = re.compile(r"[^\W_](?:[\w. -]*[\w.-])?")
_MOST_CHARACTERS = 100
_MOST_BYTES = 200  # of the 255 that a file system allows: temporary names are longer
NAMES = (
    f"up to {_MOST_CHARACTERS} letters ({_MOST_BYTES} bytes), digits, '.', '-', '_' and spaces inside, "
    "the first a letter or digit"
)
"""What a run may be called, in words."""


def is_name(name: str) -> bool:
    """Whether a run may be called so: what no file system or terminal takes for anything else.

    Letters of any script that is written from left to right: the others reorder what stands beside them. A shell takes
    a name with a space for two words: print it quoted.
    """
    return (
        _NAME.fullmatch(name) is not None
        and not any(unicodedata.bidirectional(character) in {"R", "AL"} for character in name)
        and len(name) <= _MOST_CHARACTERS
        and len(name.encode()) <= _MOST_BYTES
    )


_ADJECTIVES = """
amber bold brave bright brisk calm candid clever copper coral crisp daring deep eager early earnest fair fleet fond
free gentle glad golden grand green happy hardy honest humble keen kind late lively loyal lucky merry mild misty modest
noble patient plain proud quick quiet rapid rare rosy silent silver simple sleek smooth snowy solid spry steady stout
sunny sure swift tidy true vivid warm wild wise witty young
"""
_ANIMALS = """
adder badger bat beaver bee bison bream carp cat cod crab crane crow curlew deer dove duck eagle eel egret elk falcon
ferret finch fox frog gannet goat goose grouse gull hare hawk hen heron horse ibex jay kite lark lynx marten mole moose
moth mouse newt otter owl ox perch pike plover pony quail ram raven robin salmon seal shrew shrike snail snipe sparrow
squid stoat stork swan tern thrush toad trout turtle viper vole wasp weasel whale wolf wren yak
"""


def new_run_name(preset: str) -> str:
    """Date, preset and two words, such as `2026-11-20-quickstart-brave-otter`.

    A preset may be any file's name: what has no place in a run's name becomes a dash.
    """
    # The system's randomness: drawing from a seeded generator here would change what a seed means. Not `secrets`,
    # which has the same but is not imported otherwise: the first frame waits for it.
    chance = random.SystemRandom()
    kind = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in preset)[:60]
    words = f"{chance.choice(_ADJECTIVES.split())}-{chance.choice(_ANIMALS.split())}"
    return f"{date.today().isoformat()}-{kind}-{words}"
