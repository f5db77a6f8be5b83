"""Settings of networks and training: what a study says of them, without the libraries they need."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["SHARD", "DensitySettings", "EncoderSettings", "TrainingSettings"]

#: Runs whose sensor signals are in memory at a time.
SHARD = 16_384


class EncoderSettings(BaseModel):
    """Architecture of the encoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: Literal["bilstm", "lstm", "cnn_bilstm", "transformer", "mlp"] = Field(
        "bilstm", description="kind of backbone; `mlp` has the direct path of the others alone"
    )
    inputs: Literal["sequence", "features"] = Field(
        "sequence",
        description="what is read: the sequence, or named features of it (backbone `mlp` only)",
    )
    width: int = Field(64, ge=8, multiple_of=8, description="size of tokens and of the summary")
    layers: int = Field(1, ge=1, description="layers of the backbone")
    patch: int = Field(4, ge=1, description="steps of the sequence that make one token")

    @model_validator(mode="after")
    def _check_inputs(self) -> EncoderSettings:
        if self.inputs == "features" and self.backbone != "mlp":
            raise ValueError(
                f"features have no order in time for a {self.backbone} to read: set backbone to mlp"
            )
        return self


class TrainingSettings(BaseModel):
    """How networks are trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(30, ge=1, description="largest number of epochs")
    patience: int | None = Field(
        None,
        ge=1,
        description="epochs without improvement before stopping; without, all are run, since a "
        "one-cycle schedule finds its best ones at the end, and the best one is kept",
    )
    batch_size: int = Field(256, ge=1, description="runs in one step of the optimiser")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the one-cycle schedule")
    validation_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="share of the campaign that chooses the best epoch"
    )
    shard: int = Field(
        SHARD,
        ge=512,
        multiple_of=512,
        description="runs that are in memory at a time; a larger campaign is read in such parts",
    )


class DensitySettings(BaseModel):
    """The density estimator, built by sbi."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["nsf", "maf", "mdn"] = Field("nsf", description="sbi's name of the estimator")
    transforms: int = Field(4, ge=1, description="transforms of a flow, or layers of flow matching")
    hidden: int = Field(64, ge=8, description="hidden units")
