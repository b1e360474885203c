"""What a run's model writes: the share of its words that the corpus has, and the longest stretch copied from it.

    python benchmarks/sample_quality.py RUN [CHECKPOINT]

Prints a line per seed for 1,000 characters at the run's own sampling settings, and the first of the texts.
"""

import re
import sys

from minigpt.checkpoint import load_for_generation
from minigpt.corpus import load_corpus
from minigpt.generate import generate
from minigpt.rundir import RunDirectory
from minigpt.sampling import Sampling

SEEDS = range(1, 9)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower())


def longest_copied(text: str, corpus: str) -> int:
    """Length of the longest stretch of `text` that stands in `corpus` too."""
    best = 0
    for start in range(len(text)):
        while text[start : start + best + 1] in corpus and start + best + 1 <= len(text):
            best += 1
    return best


def main() -> None:
    run = RunDirectory.open(sys.argv[1])
    checkpoint = run.checkpoint(sys.argv[2] if len(sys.argv) > 2 else "last")
    config = run.config()
    corpus = load_corpus(config.data.corpus).text
    vocabulary = set(words(corpus))
    model, tokenizer = load_for_generation(run, checkpoint)
    sample = config.sample
    print(f"{run.name}, step {checkpoint.step}, temperature {sample.temperature}, top_k {sample.top_k}")
    texts = []
    for seed in SEEDS:
        sampling = Sampling(
            max_new_tokens=1000, temperature=sample.temperature, top_k=sample.top_k, top_p=sample.top_p, seed=seed
        )
        text = "".join(generate(model, tokenizer, sample.prompt, sampling))
        written = words(text)[:-1]  # the last one may be cut off
        known = sum(word in vocabulary for word in written) / len(written)
        speakers = len(re.findall(r"^[A-Z][A-Z ]+:$", text, re.MULTILINE))
        print(
            f"seed {seed}: {known:.1%} of {len(written)} words known, longest copy {longest_copied(text, corpus)} "
            f"characters, {speakers} speakers"
        )
        texts.append(text)
    print(f"\n{texts[0]}")


if __name__ == "__main__":
    main()
