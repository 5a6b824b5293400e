"""One module a verb of ``sce-video``: its arguments, the call of the room that does it, its output.

Each has ``ABOUT``, its line in ``sce-video --help``, and ``main(arguments, prog) -> exit code``.
Nothing heavy is imported before the arguments are read.
"""
