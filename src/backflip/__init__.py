"""Backflip: the whole loop of reinforcement learning from human feedback.

>>> import backflip as bf
>>> run = bf.train("rlhf", model="smollm2", data="comparisons.jsonl")
>>> run.summary, run.model, run.report

The public names stand in ``__init__.pyi``, by the module that each comes from. They are imported
when they are used, so that ``import backflip`` costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
