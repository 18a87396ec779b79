"""Sandboxes: how programs that a model wrote are run, and the check that nothing gets out of them.

Import all from here: `Command`, `Ended`, `Sandbox`, `Unavailable`, `end_leftovers` and `choose`,
which tries the backends at start. Every module can be imported on every system; programs run on
Linux.
"""

from asyncsvc.sandbox.bubblewrap import end_leftovers as end_leftovers
from asyncsvc.sandbox.choice import Unavailable as Unavailable
from asyncsvc.sandbox.choice import choose as choose
from asyncsvc.sandbox.command import Command as Command
from asyncsvc.sandbox.command import Ended as Ended
from asyncsvc.sandbox.command import Sandbox as Sandbox
