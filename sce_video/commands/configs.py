"""``sce-video configs``: what is shipped, and what a config may hold."""

from __future__ import annotations

from argparse import Namespace

from sce_video.arguments import Parser
from sce_video.terminal import say


def main(arguments: list[str], prog: str) -> int:
    """Run the command line; returns the exit code."""
    about = "List the shipped configs, which --config takes by these names."
    parser = Parser(prog=prog, description=about)
    parser.add_argument("--keys", action="store_true", help="all keys instead, with their meaning")
    return parser.run(arguments, _configs)


def _configs(args: Namespace) -> None:
    from sce_video.config import keys

    if args.keys:
        say(*keys.keys_markdown().strip().splitlines())
        return
    found = keys.configs()
    width = max(len(path) for path, _ in found)
    say(*(f"{path:<{width}}  {about}".rstrip() for path, about in found))
