"""The classifier that linear probing and fine-tuning leave: trunk, dropout, linear layer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sce_video.errors import UsageError
from sce_video.model.encoder import EncoderSpec, build_encoder

CLASSIFIER_NAME = "classifier.safetensors"


class Classifier(nn.Module):
    """``[B,3,T,H,W]`` -> logits ``[B,C]``."""

    def __init__(self, trunk: nn.Module, classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        features: int = trunk.features  # type: ignore[assignment]
        self.trunk, self.dropout = trunk, nn.Dropout(dropout)
        self.linear = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.linear(self.dropout(self.trunk(x)))
        return logits


def save_classifier(
    path: Path, classifier: Classifier, spec: EncoderSpec, classes: Sequence[str], task: str
) -> None:
    """Write the classifier's state dict, with how to build it in the file's header; atomically."""
    tensors = {
        name: tensor.detach().contiguous() for name, tensor in classifier.state_dict().items()
    }
    head = {"spec": spec.model_dump(mode="json"), "classes": list(classes), "task": task}
    partial = path.with_name(path.name + ".tmp")
    save_file(tensors, partial, metadata={"sce_video": json.dumps(head)})
    partial.replace(path)


def load_classifier(path: Path) -> tuple[Classifier, EncoderSpec, list[str]]:
    """Open a classifier: the network in eval mode on the CPU, its spec and its classes' names.

    Raises:
        UsageError: no classifier there, or a file that is not one of ours.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no classifier; give a finished run of task linear or finetune")
    try:
        with safe_open(path, framework="pt") as stream:
            head = json.loads(stream.metadata()["sce_video"])
            spec = EncoderSpec.model_validate(head["spec"])
            classes = [str(name) for name in head["classes"]]
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError, ValidationError) as error:
        raise UsageError(f"{path}: not a classifier of sce-video: {error}") from error
    module = Classifier(build_encoder(spec), len(classes))
    module.load_state_dict(tensors)
    return module.eval(), spec, classes
