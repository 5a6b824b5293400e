"""A classifier: trunk, dropout, linear layer; what training with labels leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from sce_video.errors import UsageError
from sce_video.model.autocast import autocast
from sce_video.model.encoder import EncoderSpec, build_encoder, read_weights, save_weights

CLASSIFIER_NAME = "classifier.safetensors"


class Classifier(nn.Module):
    """Trunk, dropout, linear layer; the head starts as N(0, 0.01) with bias 0 (SlowFast's).

    A frozen trunk gets no gradient and stays in eval mode, whatever :meth:`train` is told: its BN
    statistics are those of pretraining.
    """

    def __init__(
        self,
        trunk: nn.Module,
        classes: int,
        *,
        dropout: float = 0.0,
        frozen: bool = False,
        autocast: torch.dtype | None = None,
    ) -> None:
        """``autocast``: dtype of the trunk's arithmetic, None = as it comes; the head is fp32."""
        super().__init__()
        features: int = trunk.features  # type: ignore[assignment]
        self.trunk = trunk
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        self.frozen, self._autocast = frozen, autocast
        if frozen:
            trunk.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Classifier:
        """Set the mode; a frozen trunk keeps eval."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        return self

    def forward(self, clip: Tensor) -> Tensor:
        """Normalised clips ``[B,3,T,H,W]`` -> logits ``[B,C]`` fp32."""
        # autocast lives in here: around an engine's forward it would be switched off.
        learns = torch.is_grad_enabled() and not self.frozen
        with autocast(clip.device, self._autocast), torch.set_grad_enabled(learns):
            features = self.trunk(clip)
        logits: Tensor = self.linear(self.dropout(features.float()))
        return logits


class _Header(BaseModel):
    """What the file says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    classes: tuple[str, ...] = Field(min_length=1)  # by label
    spec: EncoderSpec


def save_classifier(
    path: Path, classifier: Classifier, spec: EncoderSpec, classes: Sequence[str], task: str
) -> None:
    """Write the classifier's state dict, atomically.

    Args:
        path: of the file.
        classifier: whose parameters are whole.
        spec: of its trunk.
        classes: names by label.
        task: of the run that trained it.
    """
    save_weights(path, classifier, _Header(task=task, classes=tuple(classes), spec=spec))


def load_classifier(path: str | Path) -> tuple[Classifier, EncoderSpec, list[str]]:
    """Open a classifier.

    Args:
        path: ``classifier.safetensors``, or the folder of a run that has one.

    Returns:
        The classifier in eval mode on the CPU (``[B,3,T,H,W]`` normalised -> logits ``[B,C]``), the
        spec of its trunk, and the names of its classes.

    Raises:
        UsageError: no classifier there, or a file that is not one of ours.
        SceVideoError: a weight that is not finite.
    """
    path = Path(path)
    file = path / CLASSIFIER_NAME if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"{file}: no classifier; give the folder of a finished run of task linear or finetune"
        )
    header, classifier = read_weights(file, _Header, "a classifier", _build)
    return cast(Classifier, classifier).eval(), header.spec, list(header.classes)


def _build(header: _Header) -> Classifier:
    return Classifier(build_encoder(header.spec), len(header.classes))
