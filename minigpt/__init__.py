"""The engine of minigpt-tui: corpus, model, trainer and run directory. Imports nothing of Textual."""

__version__ = "0.1.0"
