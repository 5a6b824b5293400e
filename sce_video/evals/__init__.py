"""Evaluations of what training leaves.

``request`` says which samples' features are wanted, from which network and ``views``; ``embed``
extracts them once (``features``: the passes) and ``kept`` has them on disk (``sample_table``: what
each is). On them build ``retrieval`` and ``knn`` (``bank``: against what), ``classification`` (the
verb ``test``; ``accuracy``, ``confusion``) and ``search`` (``faiss_index``, ``faiss_layout``).
``results`` writes files of figures. ``online`` looks in while an encoder is trained.
"""
