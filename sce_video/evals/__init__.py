"""Evaluations of what training leaves.

``commands`` has all command lines. ``embed`` extracts features or scores once and keeps them
(``features``: the passes, ``views``: of what). On them build ``retrieval`` and ``knn`` (``bank``:
against what), ``classification`` (the verb ``test``; ``scores``, ``confusion``) and ``search``
(``faiss_index``). ``online`` looks in while an encoder is trained.
"""
