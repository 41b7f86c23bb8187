"""One table: what each code base calls the weights of Deformable DETR and DINO.

Every conversion in both directions and the check that nothing is missing are derived from it. The names were
read in the code of each: models/deformable_transformer.py and models/deformable_detr.py of the official one,
modeling_deformable_detr.py of transformers 5.23, projects/deformable_detr and detrex/layers of detrex,
modeling/backbone/resnet.py of detectron2; for DINO in models/dino of IDEA-Research/DINO, whose names are the
official ones but for what the table has of its own, and in projects/dino of detrex.
"""

import re
from collections.abc import Iterable, Iterator

from torch import Tensor

FAMILIES = {
    "mmdet": "this project and mmdet 3.x",
    "official": "fundamentalvision/Deformable-DETR or IDEA-Research/DINO",
    "huggingface": "DeformableDetrForObjectDetection of transformers, backbone from timm",
    "huggingface-resnet": "DeformableDetrForObjectDetection of transformers, backbone ResNetBackbone",
    "detrex": "IDEA-Research/detrex",
}

# Modules as mmdet, official, huggingface and detrex call them. `#` is any number, `@` each linear layer of
# deformable attention; an indented row continues the row above that ends with a dot. In the official decoder
# the first norm follows the cross-attention and the second the self-attention: they are numbered as they are
# defined, not as used.
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
bbox_head.cls_branches.#    class_embed.#          class_embed.#           class_embed.#
bbox_head.reg_branches.#.0  bbox_embed.#.layers.0  bbox_embed.#.layers.0   bbox_embed.#.layers.0
bbox_head.reg_branches.#.2  bbox_embed.#.layers.1  bbox_embed.#.layers.1   bbox_embed.#.layers.1
bbox_head.reg_branches.#.4  bbox_embed.#.layers.2  bbox_embed.#.layers.2   bbox_embed.#.layers.2
"""
# The queries of each kind of model. transformers has no DINO.
_QUERIES = {
    "one-stage": """
query_embedding      query_embed                   model.query_position_embeddings  query_embedding
reference_points_fc  transformer.reference_points  model.reference_points  transformer.reference_points
""",
    "two-stage": """
memory_trans_fc      transformer.enc_output        model.enc_output        transformer.enc_output
memory_trans_norm    transformer.enc_output_norm   model.enc_output_norm   transformer.enc_output_norm
pos_trans_fc         transformer.pos_trans         model.pos_trans         transformer.pos_trans
pos_trans_norm       transformer.pos_trans_norm    model.pos_trans_norm    transformer.pos_trans_norm
""",
    "dino": """
memory_trans_fc      transformer.enc_output        -                       transformer.enc_output
memory_trans_norm    transformer.enc_output_norm   -                       transformer.enc_output_norm
query_embedding      transformer.tgt_embed         -                       transformer.tgt_embed
dn_query_generator.label_embedding  label_enc  -                       label_enc
decoder.             transformer.decoder.          -                       transformer.decoder.
  ref_point_head.layers.0  ref_point_head.layers.0  -                      ref_point_head.layers.0
  ref_point_head.layers.1  ref_point_head.layers.1  -                      ref_point_head.layers.1
  norm                     norm                     -                      norm
""",
}
# The neck. {level} counts all levels, {kind} is convs or extra_convs and {i} counts within it.
_LEVEL = """
neck.{kind}.{i}.conv  input_proj.{level}.0   model.input_proj.{level}.0   neck.{kind}.{i}.conv
neck.{kind}.{i}.gn    input_proj.{level}.1   model.input_proj.{level}.1   neck.{kind}.{i}.norm
"""
_PROJECTIONS = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")

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

# The tensors of a module of mmdet. The first expression that fits counts.
_TENSORS = (
    (r"level_embed", ("",)),
    (r"query_embedding|dn_query_generator\..*", (".weight",)),
    (r".*\.in_proj", ("_weight", "_bias")),
    (
        r"backbone\..*(bn\d|downsample\.1)",
        (".weight", ".bias", ".running_mean", ".running_var", ".num_batches_tracked"),
    ),
    (r"backbone\..*", (".weight",)),
    (r".*", (".weight", ".bias")),
)


def rename_pairs(tensors: dict[str, Tensor], source: str, target: str) -> Iterator[tuple[str, str]]:
    """Yield the names of each tensor of a model in two of `FAMILIES`, along the data flow.

    ``tensors``, by the names of ``source``, tell how many levels, layers and blocks the model has.
    """
    kind, num_layers = kind_of_model(tensors), num_decoder_layers(tensors)
    for names in _modules(tensors, kind):
        ours = names["mmdet"]
        numbers = [""]
        if ours.startswith("bbox_head"):
            numbers = range(num_layers + (kind != "one-stage"))
        elif "#" in ours:
            numbers = range(_count(tensors, re.escape(names[source].partition("#")[0])))
        leaves = next(leaves for pattern, leaves in _TENSORS if re.fullmatch(pattern, ours))
        for number in map(str, numbers):
            numbered = {family: name.replace("#", number) for family, name in names.items()}
            if ours.startswith("bbox_head") and kind == "dino" and number == str(num_layers):
                # The encoder's, which the official DINO does not number.
                branch, _, layer = names["official"].partition(".#")
                numbered["official"] = f"transformer.enc_out_{branch}{layer}"
            for leaf in leaves:
                yield numbered[source] + leaf, numbered[target] + leaf


def kind_of_model(names: Iterable[str]) -> str:
    """Tell "one-stage", "two-stage" or "dino", by the names of any family."""
    kinds = {"dino": r"\bref_point_head\.", "two-stage": r"\b(memory_trans|enc_output|pos_trans)"}
    fits = (kind for kind, pattern in kinds.items() if any(re.search(pattern, name) for name in names))
    return next(fits, "one-stage")


def num_decoder_layers(names: Iterable[str]) -> int:
    """Number of the decoder's layers, by the names of any family."""
    return _count(names, r"(?:transformer\.|model\.)?decoder\.layers\.")


def _count(names: Iterable[str], prefix: str) -> int:
    """1 + the largest number after ``prefix``; of layers that are not there at all the first is missed."""
    pattern = re.compile(rf"{prefix}(\d+)\.")
    return 1 + max((int(match[1]) for match in map(pattern.match, names) if match), default=0)


def _modules(tensors: dict[str, Tensor], kind: str) -> Iterator[dict[str, str]]:
    """The table for a neck of as many levels and a kind of model: the names of each module by family."""
    stages = "".join(_STAGE.format(stage, stage + 1, stage + 2) for stage in range(4))
    for torchvision, resnet_backbone, detectron2 in _cells(_STEM + stages):
        timm = "model.backbone.conv_encoder.model."
        names = f"backbone.{torchvision}", f"backbone.0.body.{torchvision}", timm + torchvision
        yield dict(zip(FAMILIES, (*names, timm + resnet_backbone, f"backbone.{detectron2}"), strict=True))

    # Convolutions on the backbone's levels are 1x1, those that make further levels 3x3.
    name = r"(model\.input_proj|input_proj|neck\.convs|neck\.extra_convs)\.\d+\.(0|conv)\.weight"
    is_1x1 = [tensor.shape[-1:] == (1,) for key, tensor in tensors.items() if re.fullmatch(name, key)]
    levels = [("convs", i) for i in range(sum(is_1x1))]
    levels += [("extra_convs", i) for i in range(len(is_1x1) - sum(is_1x1))]
    neck = "".join(_LEVEL.format(level=i, kind=kind, i=j) for i, (kind, j) in enumerate(levels))
    for mmdet, official, huggingface, detrex in _cells(neck + _TRANSFORMER + _QUERIES[kind]):
        names = mmdet, official, huggingface, huggingface, detrex
        yield dict(zip(FAMILIES, names, strict=True))


def _cells(text: str) -> Iterator[list[str]]:
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
