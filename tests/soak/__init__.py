"""The soak: real sessions behind a network that breaks all the time, and a checker of its own.

``python -m tests.soak --minutes 1 --sessions 20`` runs it. Page and handler
each write down what they sent and got (``records.py``); when all is over,
``checker.py``, which knows nothing of the product, compares the two.
``python -m tests.soak.peers`` puts other libraries through the same.
"""
