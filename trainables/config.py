"""Everything that a run can be told, as frozen values. No torch here: the planner reads these.

The defaults are the paper's settings (Sauvalle & Salzmann, arXiv 2408.03433), so that a smaller
scale is a list of differences. A field belongs here if it can change the result of a run, and
nowhere else if it cannot: paths, devices and log levels are `trainables.execute.Places`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainables.bounds import (
    LONGEST_LIST,
    Batch,
    Block,
    Classes,
    Count,
    CountOrNone,
    Cpus,
    Depth,
    Drawn,
    Fraction,
    Images,
    Positive,
    Seed,
    Side,
    Timestep,
    Version,
    Weight,
    Width,
)
from trainables.keys import content_key

SPEC_VERSION = 1  # Part of every key: raise it when the same fields come to mean another result.

Stage = Literal["pretraining", "fine-tuning"]
Metric = Literal["jaccard", "miou_ledm"]
Augmentation = Literal["none", "flips", "border_crop"]


class Frozen(BaseModel):
    """Immutable; refuses unknown fields, which would be settings that silently did nothing."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class AdmConfig(Frozen):
    """The ADM UNet (Dhariwal & Nichol 2021) in the paper's size."""

    family: Literal["adm"] = "adm"
    channels: Width = 128
    """Channels of the finest level; a multiple of 32, the number of normalisation groups."""
    multipliers: Annotated[tuple[Width, ...], Field(max_length=LONGEST_LIST)] = (1, 1, 2, 2, 4, 4)
    """Channels of each level, finest first, in units of `channels`."""
    blocks_per_level: Depth = 2
    attention_rates: Annotated[tuple[Side, ...], Field(max_length=LONGEST_LIST)] = (8, 16, 32)
    """Downsampling rates (not resolutions) at which levels carry self-attention."""
    head_channels: Width = 64
    """Width of one attention head."""
    dropout: Fraction = 0.1


class DeepLabConfig(Frozen):
    """DeepLabV3 on a ResNet with bottleneck blocks; the defaults are ResNet-50."""

    family: Literal["deeplab"] = "deeplab"
    blocks: tuple[Depth, Depth, Depth, Depth] = (3, 4, 6, 3)
    base_width: Width = 64
    """Inner width of the first stage's bottlenecks."""
    expansion: Width = 4
    """Output channels of a bottleneck, in units of its stage's 64, 128, 256, 512 planes."""
    atrous_rates: tuple[Side, Side, Side] = (12, 24, 36)
    backbone: Literal["imagenet1k", "random"] = "imagenet1k"
    """Initial weights of the encoder. `random` is never reported as an ImageNet row."""
    backbone_sha256: str | None = None
    """Checksum of the weight file, filled in by the planner, so that other weights are other runs."""


class SegFormerConfig(Frozen):
    """SegFormer on a Mix Transformer; the defaults are MiT-B3 with the 768-wide decoder."""

    family: Literal["segformer"] = "segformer"
    widths: tuple[Width, Width, Width, Width] = (64, 128, 320, 512)
    depths: tuple[Depth, Depth, Depth, Depth] = (3, 4, 18, 3)
    heads: tuple[Depth, Depth, Depth, Depth] = (1, 2, 5, 8)
    reductions: tuple[Side, Side, Side, Side] = (8, 4, 2, 1)
    """Spatial reduction of keys and values in the attention of each stage."""
    decoder_channels: Width = 768
    """768 for B3; the 256 that transformers defaults to belongs to B0 and B1."""
    drop_path: Fraction = 0.1
    """Largest stochastic depth, reached linearly at the last block."""
    dropout: Fraction = 0.1
    """Before the classifier of the decoder."""
    backbone: Literal["imagenet1k", "random"] = "imagenet1k"
    """Initial weights of the encoder. `random` is never reported as an ImageNet row."""
    backbone_sha256: str | None = None
    """Checksum of the weight file, filled in by the planner, so that other weights are other runs."""


NetworkConfig = Annotated[
    AdmConfig | DeepLabConfig | SegFormerConfig, Field(discriminator="family")
]


class OptimizerConfig(Frozen):
    """AdamW with linear warm-up to a constant learning rate."""

    lr: Positive
    beta1: Fraction = 0.95
    beta2: Fraction = 0.99
    """As printed in the paper; the diffusers example it builds on uses 0.999."""
    weight_decay: Weight = 1e-6
    eps: Positive = 1e-8
    warmup_updates: CountOrNone = 0
    """Updates, not epochs, so that the batch size leaves the schedule alone. The first runs at 0."""
    clip_norm: Positive | None = 1.0
    """Largest gradient norm; from the diffusers loop, the paper does not mention it."""


class SamplingConfig(Frozen):
    """Joint sampling of images and masks after a diffusion or hybrid pretraining."""

    images: Drawn = 8
    """How many to draw into the picture grid; 0 draws none."""
    steps: Annotated[int, Field(ge=2, le=999)] = 100
    """DPM-Solver steps. 1000 would repeat a timestep and divide by zero."""


class PretrainingConfig(Frozen):
    """One pretraining on a source dataset, whichever its task."""

    kind: Literal["pretraining"] = "pretraining"
    updates: Count = 40_000
    batch: Batch = 64
    micro_batch: Batch | None = None
    """Images per forward pass, gradients accumulated to `batch`; None is the whole batch.

    For networks with batch normalisation any other value changes the statistics, so only the ADM
    accepts one. Rounding differs between values, which is why it is part of the key.
    """
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-4, warmup_updates=2000)
    mask_weight: Weight = 1e-4
    """Lambda of the paper: weight of the mask term; read by the hybrid task only."""
    ema: bool = False
    """Keep an exponential moving average of the weights and store that one."""
    hold_out: Fraction = 0.1
    """Part of the source kept for choosing the best weights; read by the supervised task only."""
    evaluate_every: Count = 1000
    """Updates between evaluations on the hold-out; read by the supervised task only."""
    log_every: Count = 50
    """Updates between two logged losses."""
    sampling: SamplingConfig = SamplingConfig()


class FineTuningConfig(Frozen):
    """Vanilla fine-tuning on the labelled training images of a target."""

    kind: Literal["finetune"] = "finetune"
    train_images: Images = 20
    split_seed: Seed = 0
    """The split is the same for all methods and seeds, so that comparisons are paired."""
    batch: Batch = 12
    micro_batch: Batch | None = None
    """As in `PretrainingConfig`."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=2e-4)
    timestep: Timestep = 0
    """Fixed condition of the ADM; 0 is the least noisy step. No noise is added."""
    patience: Count = 20
    """Epochs without a strict improvement of the validation metric before stopping."""
    max_epochs: Count = 1000


class LedmConfig(Frozen):
    """LEDM (Baranchuk et al. 2022): one pixel classifier on frozen features, one ensemble member."""

    kind: Literal["ledm"] = "ledm"
    train_images: Images = 20
    split_seed: Seed = 0
    steps: Annotated[tuple[Timestep, ...], Field(max_length=LONGEST_LIST)] = (50, 150, 250)
    """Noise levels at which features are taken."""
    blocks: Annotated[tuple[Block, ...], Field(max_length=LONGEST_LIST)] = (5, 6, 7, 8, 12)
    """Decoder blocks whose outputs are features, counted from the coarsest."""
    batch_pixels: Count = 64
    lr: Positive = 1e-3
    """Of Adam with its default betas."""
    max_epochs: Count = 100
    first_stopping_epoch: CountOrNone = 4
    """Epoch, counted from 0, from which the stopping rule watches the mini-batch losses."""
    patience_iterations: CountOrNone = 50
    """Stop when more mini-batches than this passed since the lowest training loss."""
    max_iterations: Count | None = None
    """Hard limit for small scales; the official code has none."""
    min_class_pixels: CountOrNone = 20
    """A class with fewer pixels in a training image is ignored in that image."""


TrainingConfig = Annotated[
    PretrainingConfig | FineTuningConfig | LedmConfig, Field(discriminator="kind")
]


class ComputeConfig(Frozen):
    """How the arithmetic is done, as far as it can change bits."""

    precision: Literal["fp32", "tf32", "bf16"] = "tf32"
    """tf32 lets CUDA round the inputs of convolutions, as cuDNN does by default; bf16 is autocast
    with the head and the loss in fp32. On a CPU, tf32 is fp32."""
    threads: Cpus = 1
    """CPU threads of one run: another number sums in another order."""
    deterministic: bool = True
    """Whether operations have to add up in the same order every time; on CUDA this costs the ADM 4 %."""
    compile: bool | Literal["reduce-overhead"] = False
    """Whether `torch.compile` makes the code that trains the network, for the usual sizes of batches; rare
    smaller ones, evaluation, LEDM and sampling are computed as ever. `reduce-overhead` also records it
    as CUDA graphs, which need a GPU. Rounds otherwise, and dropout draws otherwise."""
    channels_last: bool = False
    """Memory layout; on an H200 it made the ADM slower, by 36 % in TF32 and 45 % in bfloat16, while its
    blocks left the layout at every shortcut (`benchmarks/gpu.py`); see `one_layout`."""
    one_layout: bool = False
    """Whether an ADM keeps one layout from its first to its last layer, channels-last or not, and
    computes its head with a multiple of 8 outputs; by default attentions hand on channels-last maps
    whatever was asked for. Dropout, drawn in the order of memory, then falls on other values."""
    fused_adamw: bool = False
    """Whether clipping and AdamW are one pass over the weights, which leaves them alone by itself where
    the gradient is not finite. The same formula, rounded elsewhere."""
    tf32_matmul: bool = False
    """Whether CUDA may round the inputs of linear layers and attention too, as `tf32` does those of
    convolutions."""
    bf16_evaluation: bool = False
    """Whether validation, hold-out and test images are segmented in bfloat16 as well, rather than in
    single precision; only where `precision` is bf16."""

    fused_norm: bool = False
    """Whether an ADM's normalisation, scale and shift, SiLU and dropout are one Triton kernel on a GPU, in
    channels-last; elsewhere the same formula. Sums round otherwise, and dropout draws otherwise."""

    @property
    def records_graphs(self) -> bool:
        """Whether what is compiled is recorded as CUDA graphs."""
        return self.compile == "reduce-overhead"

    @property
    def contradiction(self) -> str | None:
        """What does not fit together, as a sentence; None if all does.

        Not a validator: a value is put together from layers, which need not fit before they are.
        """
        if self.bf16_evaluation and self.precision != "bf16":
            return f"compute.bf16_evaluation needs compute.precision bf16, got {self.precision}"
        if self.tf32_matmul and self.precision == "fp32":
            return "compute.tf32_matmul contradicts compute.precision fp32"
        if self.fused_norm and not (self.one_layout and self.channels_last):
            return "compute.fused_norm needs compute.one_layout and compute.channels_last"
        if self.fused_norm and self.compile:
            return "compute.fused_norm contradicts compute.compile, which fuses by itself"
        return None


# How `compile = true` compiles, in keys: until then it computed other bits.
COMPILED = "fixed shapes"

# Fields of `ComputeConfig` that came after keys had been given: left out of a key at their defaults.
ADDED_TO_COMPUTE = (
    "one_layout",
    "fused_adamw",
    "tf32_matmul",
    "bf16_evaluation",
    "fused_norm",
)


class DatasetRef(Frozen):
    """The data of a run, by content."""

    name: str
    fingerprint: str
    """Content hash of the prepared dataset, or `unprepared` while only planning."""
    classes: Classes
    """Background included."""
    image_size: Side
    """Side in pixels of what the network sees."""
    augmentation: Augmentation = "none"
    metric: Metric = "jaccard"
    generated: bool = False
    """Made by a program rather than photographed: labelled on every output."""


class PretrainedRef(Frozen):
    """The pretraining that a fine-tuning starts from."""

    key: str
    task: str
    """`diffusion`, `hybrid` or `supervised`: says what the output channels mean."""
    classes: Classes
    """Classes of the source dataset."""


class RunSpec(Frozen):
    """One pretraining or one fine-tuning, fully resolved: the same spec gives the same result."""

    version: Version = SPEC_VERSION
    stage: Stage
    task: str
    """Name in `trainables.registry`: diffusion, hybrid, supervised, finetune, ledm."""
    network: NetworkConfig
    dataset: DatasetRef
    seed: Seed
    training: TrainingConfig
    pretrained: PretrainedRef | None = None
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _micro_batches_leave_batch_statistics_alone(self) -> RunSpec:
        if self.network.family != "adm" and getattr(self.training, "micro_batch", None):
            raise ValueError(
                f"micro_batch must be unset for {self.network.family}: its batch normalisation "
                "would see smaller batches"
            )
        return self

    @model_validator(mode="after")
    def _is_computed_in_one_way(self) -> RunSpec:
        if self.compute.contradiction:
            raise ValueError(self.compute.contradiction)
        return self

    @property
    def key(self) -> str:
        """Content key: 16 hexadecimal digits."""
        content = self.model_dump(mode="json")
        compute: dict[str, Any] = content["compute"]
        compute |= {name: ComputeConfig.model_fields[name].default for name in self.unread}
        # What is as it was before it could be told otherwise is the same run under the same key.
        for name in ADDED_TO_COMPUTE:
            if compute[name] == ComputeConfig.model_fields[name].default:
                del compute[name]
        if compute["compile"] is True:
            compute["compile"] = COMPILED
        return content_key(content)

    @property
    def unread(self) -> frozenset[str]:
        """Settings of `compute` that nothing in this run looks at: they are no part of its key."""
        names: set[str] = set()
        if self.network.family != "adm":
            names |= {"one_layout", "fused_norm"}
        if self.task in ("diffusion", "hybrid", "ledm"):
            names |= {"bf16_evaluation"}
        if self.task == "ledm":  # Its network is not trained.
            names |= {"compile", "channels_last", "one_layout", "fused_adamw", "fused_norm"}
        return frozenset(names)

    @property
    def without_imagenet(self) -> bool:
        """Whether the network should have started from ImageNet weights and did not."""
        return getattr(self.network, "backbone", None) == "random"
