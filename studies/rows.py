"""The rows of the studies: a config of configs/shapes, how long it is trained, and what it changes."""

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Row:
    """One variant."""

    config: str  # in configs/shapes
    times_as_long: int = 1  # the multiple of the other rows' epochs that it is trained for
    options: dict = field(default_factory=dict)  # values over the config's, by dotted key


def attention(**settings: int) -> dict[str, int]:
    """Options that give all deformable attention of a model the same settings."""
    kinds = ("encoder.layer_cfg.self_attn_cfg", "decoder.layer_cfg.cross_attn_cfg")
    return {f"model.{kind}.{key}": value for kind in kinds for key, value in settings.items()}


def coarsest(num_levels: int) -> dict:
    """Options for the coarsest levels of the backbone alone, without C6."""
    in_channels = [64, 128, 256][-num_levels:]
    return {
        "model.num_feature_levels": num_levels,
        "model.backbone.out_indices": list(range(4 - num_levels, 4)),
        "model.neck.in_channels": in_channels,
        "model.neck.num_outs": num_levels,
        **attention(num_levels=num_levels),
    }


def heads(number: int) -> dict[str, int]:
    """Options for as many heads in all attention."""
    return {"model.decoder.layer_cfg.self_attn_cfg.num_heads": number, **attention(num_heads=number)}


def with_other_rates(name: str, row: Row) -> dict[str, Row]:
    """A row with lower learning rates, as it is, and with twice its own."""
    lower, twice = (("1e-4", "2e-4"), "8e-4") if name in ("detr", "detr_dc5") else (("5e-4",), "2e-3")

    def at(rate: str) -> Row:
        return replace(row, options=row.options | {"optim_wrapper.optimizer.lr": rate})

    return {
        **{f"{name}_lr_{rate}": at(rate) for rate in lower},
        name: row,
        f"{name}_lr_{twice}": at(twice),
    }


LEVELWISE = dict(_delete_=True, type="LevelwiseDeformAttn", embed_dims=128, num_points=4, dropout=0.0)
MULTI_SCALE = "ddetr_r18_shapes_multi_scale"

# DETR ten times as long: the paper trains it for 500 epochs and the others for 50.
FIGURE_3 = {
    "detr": Row("detr_r18_shapes_c5", times_as_long=10),
    "detr_dc5": Row("detr_r18_shapes", times_as_long=10),
    "single_scale": Row("ddetr_r18_shapes_single_scale"),
    "multi_scale": Row(MULTI_SCALE),
    "refine": Row("ddetr_r18_shapes_refine"),
    "two_stage": Row("ddetr_r18_shapes"),
    "encoder_only": Row("ddetr_r18_shapes_encoder_only"),
    "dn": Row("ddetr_r18_shapes_dn"),
    "mixed": Row("ddetr_r18_shapes_mixed"),
    "dino": Row("dino_r18_shapes"),
}
TABLE_2 = {
    "multi_scale": FIGURE_3["multi_scale"],  # 4 points, 4 levels, 8 heads
    "1_point": Row(MULTI_SCALE, options=attention(num_points=1)),
    "2_points": Row(MULTI_SCALE, options=attention(num_points=2)),
    "8_points": Row(MULTI_SCALE, options=attention(num_points=8)),
    "1_level": Row(MULTI_SCALE, options=coarsest(1)),
    "2_levels": Row(MULTI_SCALE, options=coarsest(2)),
    "3_levels": Row(MULTI_SCALE, options=coarsest(3)),
    "levelwise": Row(MULTI_SCALE, options={"model.encoder.layer_cfg.self_attn_cfg": LEVELWISE}),
    "1_head": Row(MULTI_SCALE, options=heads(1)),
    "2_heads": Row(MULTI_SCALE, options=heads(2)),
    "4_heads": Row(MULTI_SCALE, options=heads(4)),
}
SEARCH = {name: row for own in FIGURE_3 for name, row in with_other_rates(own, FIGURE_3[own]).items()}
STUDIES = {"figure_3": FIGURE_3, "table_2": TABLE_2, "search": SEARCH}
ROWS = FIGURE_3 | TABLE_2 | SEARCH
