"""One module a verb of ``sce-video``: its arguments, the call of the room that does it, its output.

Each has ``main(arguments, prog) -> exit code``; its line in ``sce-video --help`` is in
:mod:`sce_video.cli`.
Nothing heavy is imported before the arguments are read.
"""
