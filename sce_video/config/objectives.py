"""The ``objective`` section: one class an objective, chosen by ``name``.

Published values are the defaults; the papers' names: coeff = lambda, temp = tau, temp_m = tau_m.
"""

from __future__ import annotations

import typing
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sce_video.config.base import Count, Positive, Section, Share


class _Paired(Section):
    """Queries against keys of a momentum encoder."""

    symmetric: bool = True  # every view is a query; false: key of view 0, query of view 1

    @property
    def queued(self) -> int:
        """Keys of a sample that enter the queue each step; 0 without a queue."""
        has_queue = getattr(self, "queue", None) is not None
        return (2 if self.symmetric else 1) if has_queue else 0


class _Queued(_Paired):
    queue: Count | None = 65536  # keys remembered; null: only those of the batch
    gather_keys: bool = False  # the keys of all ranks are candidates, too

    @model_validator(mode="after")
    def _some_candidates(self) -> _Queued:
        if self.queue is None and not self.gather_keys:
            raise ValueError("without a queue there are no negatives: set gather_keys=true")
        return self


class _SoftTarget(_Queued):
    """A target that spreads over the candidates, sharper than what is to meet it."""

    temp: Positive = 0.1
    temp_m: Positive = 0.05

    @model_validator(mode="after")
    def _sharper_target(self) -> _SoftTarget:
        if self.temp_m >= self.temp:
            raise ValueError(f"temp_m {self.temp_m} must be below temp {self.temp}")
        return self


class RingKeys(Section):
    """A band of candidates, in order of falling similarity."""

    outer: Share = 0.1  # fraction of the candidates that the band reaches; 1 = all
    inner: Share = 0.1  # fraction that is left out at its near end; 0 = none
    dynamic_inner: bool = True  # inner is a fraction of the outer part, else of all

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
    coeff: Share = 0.5
    positive_in_target: Literal["masked", "zero_logit"] = "masked"  # the paper's; released code's
    negatives: Literal["all", "ring"] = "all"  # ring: outer, inner and dynamic_inner count
    neighbours: int = Field(default=0, ge=0)  # candidates that share the positive's weight


class InfoNCEConfig(_Queued):
    """InfoNCE with a queue: MoCo v1 and v2 (which are not symmetric)."""

    name: Literal["info_nce"] = "info_nce"
    temp: Positive = 0.2


class MoCoV3Config(_Paired):
    """MoCo v3: the keys of all ranks, no queue."""

    name: Literal["mocov3"] = "mocov3"
    temp: Positive = 1.0


class ReSSLConfig(_SoftTarget):
    """ReSSL (which is not symmetric: a weak view for the key)."""

    name: Literal["ressl"] = "ressl"
    temp_m: Positive = 0.04


class SimCLRConfig(Section):
    """SimCLR: one network, no momentum encoder, no queue."""

    name: Literal["simclr"] = "simclr"
    temp: Positive = 0.5
    queued: typing.ClassVar[int] = 0


class SNCLRConfig(Section):
    """SNCLR, by its published code (``form=log_sum``: by its paper)."""

    name: Literal["snclr"] = "snclr"
    temp: Positive = 0.2
    topk: Count = 30  # neighbours of a key
    queue: Count = 128000  # keys, of view 1, among which neighbours are looked for
    form: Literal["sum_log", "log_sum"] = "sum_log"
    threshold: bool = False  # drop neighbours of no more than the average weight
    detach_weights: bool = False
    queued: typing.ClassVar[int] = 1

    @model_validator(mode="after")
    def _enough(self) -> SNCLRConfig:
        if self.topk > self.queue:
            raise ValueError(f"topk {self.topk} is above the queue of {self.queue}")
        return self


class RingConfig(_Paired, RingKeys):
    """MoCo with negatives from a ring."""

    name: Literal["ring"] = "ring"
    temp: Positive = 0.07
    queue: Count = 65536
    self_negative: bool = True  # the positive is in the denominator
    neighbor_views: bool = False  # what the inner cut leaves out are further positives
    ball: bool = False  # no inner cut of the negatives
    anneal: Literal["linear", "step", "exponential"] | None = None  # of outer, from 1 to 0.1
    anneal_epochs: Count = 100


class _BankSection(RingKeys):
    """A bank of one vector per sample; view 0 only. Needs shards with an index."""

    outer: Share = 1.0  # with inner=0: negatives are drawn from the whole bank, as published
    inner: Share = 0.0
    temp: Positive = 0.07
    bank_momentum: Share = 0.5
    queued: typing.ClassVar[int] = 0


class IRConfig(_BankSection):
    """Instance discrimination (IR)."""

    name: Literal["ir"] = "ir"
    negatives: Count = 4095  # drawn for a sample


class CMCConfig(_BankSection):
    """CMC: a trunk on lightness and one on colour, each against the other's bank."""

    name: Literal["cmc"] = "cmc"
    negatives: Count = 16383  # drawn for a sample


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
