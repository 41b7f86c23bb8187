"""Counts against closed forms."""

import json
import runpy
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ms_deform_attn import MSDeformAttn, _library
from projects.dat.attention import DeformableAttention

REPO = Path(__file__).resolve().parents[2]
TOOLS = REPO / "tools" / "analysis_tools"
get_flops = runpy.run_path(str(TOOLS / "get_flops.py"))
complexity = runpy.run_path(str(REPO / "studies" / "complexity.py"))


class OneStage(nn.Module):
    """A model of which everything can be counted by hand."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.linear = nn.Linear(8, 5)
        self.unused = nn.Linear(7, 7)

    def forward(self, image, samples: list[DetDataSample], mode: str):
        assert mode == "tensor" and samples[0].batch_input_shape == tuple(image.shape[-2:])
        x = self.conv(image * self.scale[:, None, None])
        return self.linear(x.permute(0, 2, 3, 1)), torch.ones(3, 3) @ torch.ones(3, 4)


class Deformed(nn.Module):
    """A detector that is nothing but DAT's deformable attention."""

    def __init__(self):
        super().__init__()
        self.attention = DeformableAttention(3, 3, 3, 4, kernel_size=5, max_bias_elements=100)

    def forward(self, image, samples: list[DetDataSample], mode: str):
        return self.attention(image)


def test_deformable_attention_of_dat_is_counted_whole():
    """It is worked out a part of the queries at a time."""
    cells, channels, heads, groups = 5 * 7, 3, 3, 3
    projections = 4 * channels**2 * cells
    offsets = channels * 5 * 5 * cells + groups * 2 * (channels // groups) * cells
    sampling = 5 * channels * cells
    bias = 5 * heads * cells**2
    products = 2 * channels * cells**2
    counted = get_flops["count_flops"](Deformed(), (5, 7))
    assert counted["attention"] == projections + offsets + sampling + bias + products


def test_counts_are_those_by_hand():
    model = OneStage()
    cells = 5 * 7
    assert get_flops["count_flops"](model, (9, 14)) == {
        "conv": cells * 3 * 3 * 3 * 8,
        "linear": cells * 8 * 5,
        "": 3 * 3 * 4,
    }
    expected = {"": 3, "conv": 8 * 28, "linear": 5 * 9, "unused": 7 * 8}
    assert get_flops["count_parameters"](model) == expected
    mean = get_flops["count_mean"](model, Counter({(9, 14): 3, (18, 14): 1}))
    assert mean["linear"] == (3 * 5 * 7 + 9 * 7) / 4 * 8 * 5


@pytest.mark.parametrize("built", [True, False], ids=["extension", "reference"])
@pytest.mark.parametrize("reference_dims", [2, 4])
def test_deformable_attention_is_the_papers_formula(built, reference_dims, monkeypatch):
    """Appendix A.1, whatever serves the op."""
    if built and not _library.serves(torch.device("cpu")):
        pytest.skip("the extension is not built")
    monkeypatch.setattr(_library, "serves", lambda device: built)
    attention = MSDeformAttn(24, num_heads=3, num_levels=2, num_points=5)
    counter = FlopCounterMode(display=False, custom_mapping=get_flops["op_formulas"]())
    query, value, points = (torch.rand(2, *shape) for shape in [(7, 24), (26, 24), (7, 2, reference_dims)])
    with counter:
        attention(query, value, points, [(4, 5), (2, 3)], [0, 20])
    expected = complexity["deformable_attention"](7, 26, 24, 3, num_levels=2, num_points=5)
    assert counter.get_total_flops() == 2 * 2 * expected  # two images, two a multiply-add


def test_encoder_of_the_count_is_that_of_the_plot(capsys):
    config = REPO / "configs" / "ddetr_r50_50e.py"
    get_flops["main"]([str(config), "--shape", "800", "1333"])
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines()[2:]}
    attention = complexity["encoder_costs"](800)["deformable attention, C3 to C6"]
    cells = 100 * 167 + 50 * 84 + 25 * 42 + 13 * 21
    ffn = 6 * 2 * cells * 256 * 1024 / 1e9
    assert float(rows["encoder"][1]) == pytest.approx(attention + ffn, abs=0.006)
    assert rows["total"] == ["40.12", "206.72"]


def test_published_figure_comes_from_images_of_many_sizes(tmp_path, capsys):
    """The sizes of COCO's images; DETR's count is the mean of 100 of them, not that of 800 x 1333."""
    sizes = [(640, 480), (640, 427), (480, 640), (500, 375)]
    images = [dict(id=9 - i, width=w, height=h, file_name="") for i, (w, h) in enumerate(sizes)]
    path = tmp_path / "ann.json"
    path.write_text(json.dumps(dict(images=images, categories=[])))
    expected = Counter({(800, 1067): 1, (1067, 800): 1, (800, 1199): 1})
    assert get_flops["read_shapes"](path, 3) == expected
    config = REPO / "tests" / "tiny_ddetr.py"
    get_flops["main"]([str(config), "--ann-file", str(path), "--num-images", "2"])
    assert "mean of 2 images" in capsys.readouterr().out


def test_mistakes_are_named(tmp_path, one_line_error):
    main, config = get_flops["main"], REPO / "tests" / "tiny_ddetr.py"
    assert "none.json does not exist" in one_line_error(main, config, "--ann-file", tmp_path / "none.json")
    (tmp_path / "empty.json").write_text('{"images": [], "categories": []}')
    assert "empty.json" in one_line_error(main, config, "--ann-file", tmp_path / "empty.json")
    with pytest.raises(SystemExit):
        main([str(config), "--shape", "800", "0"])
