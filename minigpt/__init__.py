"""The engine of minigpt-tui: corpus, model, trainer and run directory. Imports nothing of Textual."""

import os

__version__ = "0.1.0"

# torch's CPU threads wait for each other some hundred times a step, by default spinning. As soon as anything else wants
# a core (a chat, a chart, another program) the one that is waited for does not get it, and training on two cores falls
# to a tenth. Sleeping threads yield the core. GNU OpenMP reads this when torch is loaded, hence here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
