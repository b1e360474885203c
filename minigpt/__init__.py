"""The engine of minigpt-tui: corpus, model, trainer and run directory. Imports nothing of Textual."""

import atexit
import gc
import os

__version__ = "0.1.0"

# torch's CPU threads wait for each other some hundred times a step, by default spinning. As soon as anything else
# wants a core (a chat, a chart, another program) the one that is waited for does not get it, and training on two cores
# becomes several times slower. Threads that spin only briefly and then sleep yield the core, and cost nothing while
# nobody else is there (figures in docs/development.md). GNU OpenMP reads this when torch is loaded, hence here.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# At its end Python looks through everything for garbage, which with torch loaded takes half a second before the shell
# is back. What is frozen isn't looked at, and the system takes the memory anyway.
atexit.register(gc.freeze)
