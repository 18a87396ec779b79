"""A simulated OpenAI-compatible provider over real HTTP, with limits, faults and figures.

Imports nothing of the rest of asyncsvc: to the service it is one more provider on the network.
May be imported: the names of `__all__`.
"""

from asyncsvc.simulator.profile import ModelSettings, Profile, ProfileError
from asyncsvc.simulator.serving import Running, running, serve
from asyncsvc.simulator.simulator import Simulator

__all__ = ["ModelSettings", "Profile", "ProfileError", "Running", "Simulator", "running", "serve"]
