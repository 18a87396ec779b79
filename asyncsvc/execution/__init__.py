"""Execution: workers that run tasks, each by a call to a provider that several tasks may share.

Owns the calls under way, from a permit to the recorded outcome of each task. Import `Executor`
from `execution`, `WorkerPool` from `workers`, `Agents` from `agent`; other packages need nothing
else.
"""
