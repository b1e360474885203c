"""What the headless form and the screen have in common about being asked to stop by a signal."""

AGAIN_AFTER = 0.5
"""Seconds; timeout(1) and some schedulers send one request to stop as two signals, and only a later one is a second."""
