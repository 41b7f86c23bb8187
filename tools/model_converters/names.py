"""One table: what each code base calls the weights of Deformable DETR.

Every conversion in both directions, the guess of a file's family and the check that nothing is missing are
derived from it. The names were read in the code of each: models/deformable_transformer.py and
models/deformable_detr.py of the official one, modeling_deformable_detr.py of transformers 5.23,
projects/deformable_detr and detrex/layers of detrex, modeling/backbone/resnet.py of detectron2.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

FAMILIES = {
    "mmdet": "this project and mmdet 3.x",
    "official": "fundamentalvision/Deformable-DETR",
    "huggingface": "DeformableDetrForObjectDetection of transformers, backbone from timm",
    "huggingface-resnet": "DeformableDetrForObjectDetection of transformers, backbone ResNetBackbone",
    "detrex": "IDEA-Research/detrex",
}

# mmdet, official, huggingface, detrex. `#` is any number, `@` each linear layer of deformable attention; an
# indented row goes on from the row above that ends with a dot. In the official decoder the first norm follows
# the cross-attention and the second the self-attention: they are numbered as they are defined, not as used.
_TRANSFORMER = """
encoder.layers.#.  transformer.encoder.layers.#.  model.encoder.layers.#.  transformer.encoder.layers.#.
  self_attn.@               self_attn.@          self_attn.@              attentions.0.@
  norms.0                   norm1                self_attn_layer_norm     norms.0
  ffn.layers.0.0            linear1              fc1                      ffns.0.layers.0.0
  ffn.layers.1              linear2              fc2                      ffns.0.layers.1
  norms.1                   norm2                final_layer_norm         norms.1
decoder.layers.#.  transformer.decoder.layers.#.  model.decoder.layers.#.  transformer.decoder.layers.#.
  self_attn.attn.in_proj    self_attn.in_proj    self_attn.in_proj        attentions.0.attn.in_proj
  self_attn.attn.out_proj   self_attn.out_proj   self_attn.out_proj       attentions.0.attn.out_proj
  norms.0                   norm2                self_attn_layer_norm     norms.0
  cross_attn.@              cross_attn.@         encoder_attn.@           attentions.1.@
  norms.1                   norm1                encoder_attn_layer_norm  norms.1
  ffn.layers.0.0            linear1              fc1                      ffns.0.layers.0.0
  ffn.layers.1              linear2              fc2                      ffns.0.layers.1
  norms.2                   norm3                final_layer_norm         norms.2
level_embed          transformer.level_embed       model.level_embed       transformer.level_embeds
query_embedding      query_embed                   model.query_position_embeddings  query_embedding
reference_points_fc  transformer.reference_points  model.reference_points  transformer.reference_points
memory_trans_fc      transformer.enc_output        model.enc_output        transformer.enc_output
memory_trans_norm    transformer.enc_output_norm   model.enc_output_norm   transformer.enc_output_norm
pos_trans_fc         transformer.pos_trans         model.pos_trans         transformer.pos_trans
pos_trans_norm       transformer.pos_trans_norm    model.pos_trans_norm    transformer.pos_trans_norm
"""
_PROJECTIONS = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")

# The branches; the others let the decoder hold those that it uses itself under a second name.
_HEAD = """
bbox_head.cls_branches.#    {0}class_embed.#           {1}class_embed.#           {0}class_embed.#
bbox_head.reg_branches.#.0  {0}bbox_embed.#.layers.0   {1}bbox_embed.#.layers.0   {0}bbox_embed.#.layers.0
bbox_head.reg_branches.#.2  {0}bbox_embed.#.layers.1   {1}bbox_embed.#.layers.1   {0}bbox_embed.#.layers.1
bbox_head.reg_branches.#.4  {0}bbox_embed.#.layers.2   {1}bbox_embed.#.layers.2   {0}bbox_embed.#.layers.2
"""
COPY_PREFIXES = ("transformer.decoder.", "model.decoder.")

# The neck: a level of the backbone, a further level. {0} counts within the kind, {1} through all levels.
_BACKBONE_LEVEL = """
neck.convs.{0}.conv         input_proj.{1}.0    model.input_proj.{1}.0    neck.convs.{0}.conv
neck.convs.{0}.gn           input_proj.{1}.1    model.input_proj.{1}.1    neck.convs.{0}.norm
"""
_FURTHER_LEVEL = """
neck.extra_convs.{0}.conv   input_proj.{1}.0    model.input_proj.{1}.0    neck.extra_convs.{0}.conv
neck.extra_convs.{0}.gn     input_proj.{1}.1    model.input_proj.{1}.1    neck.extra_convs.{0}.norm
"""

# The backbone: torchvision (so mmdet, official and timm), ResNetBackbone, detectron2. {0} counts stages.
_STEM = """
conv1           embedder.embedder.convolution       stem.conv1
bn1             embedder.embedder.normalization     stem.conv1.norm
"""
_STAGE = """
layer{1}.#.     encoder.stages.{0}.layers.#.        res{2}.#.
  conv1         layer.0.convolution                 conv1
  bn1           layer.0.normalization               conv1.norm
  conv2         layer.1.convolution                 conv2
  bn2           layer.1.normalization               conv2.norm
  conv3         layer.2.convolution                 conv3
  bn3           layer.2.normalization               conv3.norm
  downsample.0  shortcut.convolution                shortcut
  downsample.1  shortcut.normalization              shortcut.norm
"""

_BATCH_NORM = (".weight", ".bias", ".running_mean", ".running_var")
# What belongs to a module of mmdet: always, and in some files. The first expression that fits counts.
_LEAVES = (
    (r"level_embed", ("",), ()),
    (r"query_embedding", (".weight",), ()),
    (r".*\.in_proj", ("_weight", "_bias"), ()),
    (r"neck\..*\.conv", (".weight",), (".bias",)),
    (r"backbone\..*(bn\d|downsample\.1)", _BATCH_NORM, (".num_batches_tracked",)),
    (r"backbone\..*", (".weight",), ()),
    (r".*", (".weight", ".bias"), ()),
)


class Row(NamedTuple):
    """A module, or one module of each layer; ``#`` in its names stands for the number of the layer."""

    names: dict[str, str]  # by family
    copies: dict[str, str]  # by family, the second name of a branch
    leaves: tuple[str, ...]  # what the module has
    optional: tuple[str, ...]  # what it has in some files

    def spell(self, family: str, number: str, leaf: str) -> str:
        """The full name of one tensor."""
        return self.names[family].replace("#", number) + leaf

    def spell_copy(self, family: str, number: str, leaf: str) -> str:
        """The second full name of one tensor, of a branch alone."""
        return self.copies[family].replace("#", number) + leaf


class Levels(NamedTuple):
    """How many levels the neck makes out of the backbone's, and how many further ones."""

    backbone: int
    further: int


@cache
def table(levels: Levels) -> tuple[Row, ...]:
    """All rows for a neck of so many levels, in the order of the data flow."""
    stages = "".join(_STAGE.format(stage, stage + 1, stage + 2) for stage in range(4))
    rows = [_backbone_names(*cells) for cells in _cells(_STEM + stages)]
    neck = [_BACKBONE_LEVEL.format(i, i) for i in range(levels.backbone)]
    neck += [_FURTHER_LEVEL.format(i, levels.backbone + i) for i in range(levels.further)]
    rows += [_names(*cells) for cells in _cells("".join(neck) + _TRANSFORMER)]
    copies = [{}] * len(rows) + [_names(*cells) for cells in _cells(_HEAD.format(*COPY_PREFIXES))]
    rows += [_names(*cells) for cells in _cells(_HEAD.format("", ""))]
    return tuple(Row(names, copy, *_leaves(names["mmdet"])) for names, copy in zip(rows, copies, strict=True))


def _cells(text: str) -> Iterable[list[str]]:
    """The cells of each row of a table, with headers and projections written out."""
    for line in filter(None, text.splitlines()):
        cells = line.split()
        if cells[0].endswith("."):
            header = cells
            continue
        if line.startswith(" "):
            cells = [head + cell for head, cell in zip(header, cells, strict=True)]
        for projection in _PROJECTIONS if "@" in line else [""]:
            yield [cell.replace("@", projection) for cell in cells]


def _names(mmdet: str, official: str, huggingface: str, detrex: str) -> dict[str, str]:
    return dict(zip(FAMILIES, (mmdet, official, huggingface, huggingface, detrex), strict=True))


def _backbone_names(torchvision: str, resnet_backbone: str, detectron2: str) -> dict[str, str]:
    timm = "model.backbone.conv_encoder.model."
    return {
        "mmdet": f"backbone.{torchvision}",
        "official": f"backbone.0.body.{torchvision}",
        "huggingface": timm + torchvision,
        "huggingface-resnet": timm + resnet_backbone,
        "detrex": f"backbone.{detectron2}",
    }


def _leaves(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return next(leaves for pattern, *leaves in _LEAVES if re.fullmatch(pattern, name))


@cache
def _patterns(family: str, levels: Levels) -> list[tuple[re.Pattern, Row]]:
    """What the names of each row look like, second names too."""
    patterns = []
    for row in table(levels):
        leaves = "|".join(map(re.escape, row.leaves + row.optional))
        for name in {row.names[family], row.copies.get(family, row.names[family])}:
            number = re.escape(name).replace(r"\#", r"(?P<number>\d+)")
            patterns.append((re.compile(f"{number}(?P<leaf>{leaves})"), row))
    return patterns


def find(key: str, family: str, levels: Levels) -> tuple[Row, str, str] | None:
    """Look a tensor's name up.

    Args:
        key: its name, or second name, in ``family``.
        family: one of `FAMILIES`.
        levels: of the neck.

    Returns:
        Its row, the number of its layer as a text (empty where there is none) and what of the module it is
        (".weight" and so on); None if the family has no such name.
    """
    for pattern, row in _patterns(family, levels):
        if match := pattern.fullmatch(key):
            return row, match.groupdict().get("number", ""), match["leaf"]
    return None
