"""The ``objective`` section: one class an objective, chosen by ``name``.

Published values are the defaults; the papers' names: coeff = lambda, temp = tau, temp_m = tau_m.
"""

from __future__ import annotations

import typing
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sce_video.config.base import Count, Positive, Section, Share, key

Temp = Annotated[Positive, Field(description="temperature of the queries' similarities")]
TempM = Annotated[Positive, Field(description="temperature of the target, below `temp`")]
Outer = Annotated[Share, Field(description="share of the candidates that the ring reaches")]
Inner = Annotated[Share, Field(description="share that is left out, the nearest of them")]
Drawn = Annotated[Count, Field(description="rows of the bank drawn for a sample")]


class _Objective(Section):
    """A loss and its memory."""

    views: typing.ClassVar[int | None] = None
    """Views of a sample that it takes; None = all that the recipe makes."""


class _Paired(_Objective):
    """Queries against keys of a momentum encoder."""

    symmetric: bool = key(True, "every view is a query; false = key of view 0, query of view 1")

    @property
    def queued(self) -> int:
        """Keys of a sample that enter the queue each step; 0 without a queue."""
        has_queue = getattr(self, "queue", None) is not None
        return (2 if self.symmetric else 1) if has_queue else 0


class _Queued(_Paired):
    """Candidates from a queue, from the batch, or from both."""

    queue: Count | None = key(65536, "past keys that are remembered; null = only keys of the batch")
    gather_keys: bool = key(False, "the keys of all ranks are candidates, too")

    @model_validator(mode="after")
    def _some_candidates(self) -> _Queued:
        if self.queue is None and not self.gather_keys:
            raise ValueError("without a queue there are no negatives: set gather_keys=true")
        return self


class _SoftTarget(_Queued):
    """A target that spreads over the candidates, sharper than what is to meet it."""

    temp: Temp = 0.1
    temp_m: TempM = 0.05

    @model_validator(mode="after")
    def _sharper_target(self) -> _SoftTarget:
        if self.temp_m >= self.temp:
            raise ValueError(f"temp_m {self.temp_m} must be below temp {self.temp}")
        return self


class RingKeys(_Objective):
    """A band of candidates, in order of falling similarity."""

    outer: Outer = 0.1
    inner: Inner = 0.1
    dynamic_inner: bool = key(True, "`inner` is a share of `outer`'s part; false = of all")

    @model_validator(mode="after")
    def _some_are_left(self) -> RingKeys:
        candidates = getattr(self, "queue", None) or 10**9  # a bank's size is not known here
        outer = int(self.outer * candidates)
        inner = int(self.inner * (outer if self.dynamic_inner else candidates))
        if inner >= outer and getattr(self, "negatives", "ring") != "all":
            raise ValueError(f"no candidate lies between inner {self.inner} and outer {self.outer}")
        return self


class SCEConfig(_SoftTarget, RingKeys):
    """SCE; ``negatives=ring`` and ``neighbours`` are compositions of ours."""

    name: Literal["sce"] = "sce"
    coeff: Share = key(0.5, "weight of the positive in the target")
    positive_in_target: Literal["masked", "zero_logit"] = key(
        "masked", "masked = the paper's relation; zero_logit = the released code's"
    )
    negatives: Literal["all", "ring"] = key("all", "candidates; ring = `outer`, `inner` cut them")
    neighbours: int = key(0, "candidates that share the positive's weight", ge=0)


class InfoNCEConfig(_Queued):
    """InfoNCE with a queue: MoCo v1 and v2 (which are not symmetric)."""

    name: Literal["info_nce"] = "info_nce"
    temp: Temp = 0.2


class MoCoV3Config(_Paired):
    """MoCo v3: the keys of all ranks, no queue."""

    name: Literal["mocov3"] = "mocov3"
    temp: Temp = 1.0


class ReSSLConfig(_SoftTarget):
    """ReSSL (which is not symmetric: a weak view for the key)."""

    name: Literal["ressl"] = "ressl"
    temp_m: TempM = 0.04


class SimCLRConfig(_Objective):
    """SimCLR: one network, no momentum encoder, no queue."""

    name: Literal["simclr"] = "simclr"
    temp: Temp = 0.5
    queued: typing.ClassVar[int] = 0
    views = 2


class SNCLRConfig(_Objective):
    """SNCLR, by its published code (``form=log_sum``: by its paper)."""

    name: Literal["snclr"] = "snclr"
    temp: Temp = 0.2
    topk: Count = key(30, "neighbours of a key")
    queue: Count = key(128000, "keys of view 1 that are remembered, to look for neighbours")
    form: Literal["sum_log", "log_sum"] = key("sum_log", "the released code's, or the paper's")
    threshold: bool = key(False, "drop neighbours of no more than average weight")
    detach_weights: bool = key(False, "no gradient through the neighbours' weights")
    queued: typing.ClassVar[int] = 1

    @model_validator(mode="after")
    def _enough(self) -> SNCLRConfig:
        if self.topk > self.queue:
            raise ValueError(f"topk {self.topk} is above the queue of {self.queue}")
        return self


class RingConfig(_Paired, RingKeys):
    """MoCo with negatives from a ring."""

    name: Literal["ring"] = "ring"
    temp: Temp = 0.07
    queue: Count = key(65536, "past keys that are remembered")
    self_negative: bool = key(True, "the positive is in the denominator")
    neighbor_views: bool = key(False, "what the inner cut leaves out are further positives")
    ball: bool = key(False, "no inner cut of the negatives")
    anneal: Literal["linear", "step", "exponential"] | None = key(None, "how `outer` falls to 0.1")
    anneal_epochs: Count = key(100, "epochs that the fall takes")


class _BankSection(RingKeys):
    """A bank of one vector per sample; view 0 only. Needs shards with an index."""

    outer: Outer = 1.0  # with inner=0: negatives are drawn from the whole bank, as published
    inner: Inner = 0.0
    temp: Temp = 0.07
    bank_momentum: Share = key(0.5, "share of its past that a sample's vector keeps")
    queued: typing.ClassVar[int] = 0
    views = 1


class IRConfig(_BankSection):
    """Instance discrimination (IR): a sample against its own past in a bank of all."""

    name: Literal["ir"] = "ir"
    negatives: Drawn = 4095


class CMCConfig(_BankSection):
    """CMC: a trunk on lightness and one on colour, each against the other's bank."""

    name: Literal["cmc"] = "cmc"
    negatives: Drawn = 16383


Objective = (
    SCEConfig
    | InfoNCEConfig
    | MoCoV3Config
    | ReSSLConfig
    | SimCLRConfig
    | SNCLRConfig
    | RingConfig
    | IRConfig
    | CMCConfig
)
ObjectiveConfig = Annotated[Objective, Field(discriminator="name")]
OBJECTIVES: dict[str, type[Section]] = {
    kind.model_fields["name"].default: kind for kind in typing.get_args(Objective)
}
"""Name -> its section."""
