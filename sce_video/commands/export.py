"""``sce-video export``: the encoder of a run as a file."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sce_video.arguments import Parser
from sce_video.terminal import say


def main(arguments: list[str], prog: str) -> int:
    """Run the command line; returns the exit code."""
    about = "Write the encoder of a run, also of one that was stopped."
    parser = Parser(prog=prog, description=about)
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument("--checkpoint", metavar="step-XXXXXXXX", help="default: the newest")
    parser.add_argument(
        "--branch", choices=("online", "momentum"), default="online", help="default online"
    )
    parser.add_argument(
        "--format",
        choices=("encoder", "torchvision", "pytorchvideo"),
        default="encoder",
        help="encoder: safetensors for sce_video.load_encoder (default); else a .pth that the "
        "library's own network loads strictly",
    )
    parser.add_argument("--out", type=Path, help="file or folder (default: the run's)")
    return parser.run(arguments, _export)


def _export(args: Namespace) -> None:
    from sce_video.export import export_encoder

    library = None if args.format == "encoder" else args.format
    options = {"checkpoint": args.checkpoint, "branch": args.branch, "library": library}
    say(export_encoder(args.run, args.out, **options))
