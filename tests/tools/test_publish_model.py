"""What is handed on detects the same: as a checkpoint here, and as a folder in transformers."""

import base64
import hashlib
import json
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage

from projects.reliable_runner.files.checkpoint_file import read_checkpoint
from projects.reliable_runner.inference import inference_detector, init_detector, prepare

sys.path.append(str(Path(sys.prefix) / "transformers"))  # where `make test` installs it
CONFIG = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"

pytestmark = pytest.mark.usefixtures("small_run")

VARIANTS = {
    "base": "",
    "refine": "with_box_refine=True,",
    "two-stage": "with_box_refine=True, as_two_stage=True,",
    "denoising": "with_box_refine=True, as_two_stage=True, denoising=dict(type='ContrastiveDenoising'),",
}
# What differs from the tiny config, so that transformers can express it: levels, neck, positions, images.
HEIR = """
_base_ = "{base}"
attention = dict(num_levels=3, num_points=2)
model = dict(
    {variant}
    num_feature_levels=3,
    data_preprocessor=dict(mean=[120.0, 110.0, 100.0], std=[60.0, 55.0, 50.0], bgr_to_rgb=True),
    backbone=dict(depth={depth}, out_indices=(1, 2)),
    neck=dict(in_channels={channels}, norm_cfg=dict(num_groups=32), num_outs=3),
    positional_encoding=dict(offset=-0.5),
    encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=attention)),
    decoder=dict(num_layers=2, layer_cfg=dict(cross_attn_cfg=attention)),
)
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="DETRResize", scale=(96, 64)),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
"""


@pytest.fixture
def detector_files(tmp_path):
    """Writes a config that inherits the tiny one, and random weights for it."""

    def write(variant: str = "base", depth: int = 18, changes: str = "") -> tuple[Path, Path]:
        config, checkpoint = tmp_path / "mine.py", tmp_path / "epoch_1.pth"
        channels = [16, 32] if depth == 18 else [64, 128]
        text = HEIR.format(base=CONFIG, variant=VARIANTS[variant], depth=depth, channels=channels)
        config.write_text(text + changes)
        torch.manual_seed(0)
        detector = init_detector(config, device="cpu")
        for name, tensor in dict(detector.state_dict()).items():
            if tensor.is_floating_point():
                noise = 0.2 * torch.randn_like(tensor)
                tensor += noise.abs() if name.endswith("running_var") else noise
        torch.save({"state_dict": detector.state_dict(), "optimizer": {}, "message_hub": {}}, checkpoint)
        return config, checkpoint

    return write


@pytest.fixture
def images(tmp_path) -> list[Path]:
    """Three pictures whose sizes differ, before and after they are resized."""
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, (h, w) in zip(paths, [(70, 123), (64, 64), (150, 90)], strict=True):
        noise = np.random.default_rng(h).integers(0, 256, (6, 9, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(noise, (w, h), interpolation=cv2.INTER_CUBIC))
    return paths


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_load_like_any_checkpoint(suffix, tmp_path, detector_files, images, tool, capsys):
    config, checkpoint = detector_files("refine")
    tool("publish_model", config, checkpoint, "--out", tmp_path / "out", "--format", suffix)
    # The same contents.
    tool("publish_model", config, checkpoint, "--out", tmp_path / f"out/mine{suffix}")
    (published,) = (tmp_path / "out").iterdir()
    assert published.name == f"mine-{hashlib.sha256(published.read_bytes()).hexdigest()[:8]}{suffix}"
    assert f"weights, classes and config: {published}\n" in capsys.readouterr().out

    contents = read_checkpoint(published)
    assert set(contents) == {"meta", "state_dict"}
    assert contents["meta"]["dataset_meta"] == {"classes": ["circle", "square", "triangle"]}
    assert "DETRResize" in contents["meta"]["cfg"]
    before, after = (
        inference_detector(init_detector(config, file, "cpu"), images) for file in (checkpoint, published)
    )
    for a, b in zip(before, after, strict=True):
        for key in ("bboxes", "scores", "labels"):
            assert torch.equal(a.pred_instances[key], b.pred_instances[key])
    tool("test", config, published, "--work-dir", tmp_path / "test")
    assert "Average Precision" in capsys.readouterr().out


def test_a_name_of_another_format_is_refused(tmp_path, detector_files, tool, one_line_error):
    config, checkpoint = detector_files()
    error = one_line_error("publish_model", config, checkpoint, "--out", tmp_path / "out.onnx")
    assert "out.onnx: a file ends with .pth or .safetensors" in error
    assert not (tmp_path / "out.onnx").exists()
    (tmp_path / "v1.0").mkdir()
    tool("publish_model", config, checkpoint, "--out", tmp_path / "v1.0")
    assert [path.suffix for path in (tmp_path / "v1.0").iterdir()] == [".pth"]


def test_an_average_is_what_is_published(tmp_path, detector_files, tool):
    config, checkpoint = detector_files()
    model, hook = init_detector(config, checkpoint, "cpu"), EMAHook()
    hook.src_model, hook.ema_model = model, ExponentialMovingAverage(model)
    for tensor in hook.ema_model.module.parameters():
        tensor.data += 1
    average = {key: tensor.clone() for key, tensor in hook.ema_model.module.state_dict().items()}
    saved = {"state_dict": model.state_dict(), "meta": {}}
    hook.before_save_checkpoint(None, saved)
    torch.save(saved, checkpoint)
    tool("publish_model", config, checkpoint, "--out", tmp_path / "out")
    (published,) = (tmp_path / "out").iterdir()
    weights = torch.load(published)["state_dict"]
    assert weights.keys() == average.keys()
    assert all(torch.equal(weights[key], average[key]) for key in average)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("depth", [18, 50])
def test_transformers_detects_the_same(variant, depth, tmp_path, detector_files, images, tool):
    transformers = pytest.importorskip("transformers", reason="`make test` installs it; Python >= 3.11")
    config, checkpoint = detector_files(variant, depth)
    folder, results = tmp_path / "folder", tmp_path / "metrics.json"
    results.write_text('{"coco/bbox_mAP": 0.25, "time": 0.1}')
    options = ["--to-folder", folder, "--results", results, "--license", "mit"]
    tool("publish_model", config, checkpoint, *options)
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    assert "3\nclasses: `circle`, `square`, `triangle`." in card and "| coco/bbox_mAP | 0.25 |" in card

    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    theirs, report = transformers.AutoModelForObjectDetection.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report.values())
    assert theirs.config.id2label == {0: "circle", 1: "square", 2: "triangle"}
    ours = init_detector(config, checkpoint, "cpu")
    batch = ours.data_preprocessor(pseudo_collate([prepare(ours, path) for path in images]))
    pictures = [cv2.imread(str(path))[..., ::-1] for path in images]
    inputs = processor(pictures, return_tensors="pt")
    assert inputs["pixel_mask"].min() == 0  # the batch is padded
    torch.testing.assert_close(inputs["pixel_values"], batch["inputs"], rtol=0, atol=1e-5)
    with torch.no_grad():
        outputs = theirs(**inputs)
        logits, boxes = ours(**batch, mode="tensor")
    assert logits[-1].std() > 0.1 and boxes[-1].std() > 0.01
    torch.testing.assert_close(outputs.logits, logits[-1], rtol=0, atol=1e-4)
    torch.testing.assert_close(outputs.pred_boxes, boxes[-1], rtol=0, atol=1e-4)

    sizes = [picture.shape[:2] for picture in pictures]
    found = processor.post_process_object_detection(outputs, 0, sizes, top_k=10)
    for a, b, (h, w) in zip(inference_detector(ours, images, 3), found, sizes, strict=True):
        assert a.pred_instances.labels.tolist() == b["labels"].tolist()
        torch.testing.assert_close(a.pred_instances.scores, b["scores"], rtol=0, atol=1e-4)
        within = b["boxes"].clamp(min=torch.zeros(4), max=torch.tensor([w, h, w, h]))
        torch.testing.assert_close(a.pred_instances.bboxes, within, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ("model['neck']['norm_cfg']['num_groups'] = 16", "model.neck.norm_cfg.num_groups is 16"),
        ("model['positional_encoding']['offset'] = 0.0", "model.positional_encoding.offset is 0.0"),
        ("model['backbone']['type'] = 'ResNetDC5'", "model.backbone.type is 'ResNetDC5'"),
        ("model['decoder'] = None", "model.decoder.type is 'NoneType'"),
        ("model['decoder']['post_norm_cfg'] = dict(type='LN')", "model.decoder.post_norm_cfg is "),
        ("model['decoder']['refine_eps'] = 1e-3", "model.decoder.refine_eps is 0.001"),
        (
            "model['encoder']['layer_cfg']['self_attn_cfg'] = "
            "dict(type='LevelwiseDeformAttn', embed_dims=32, num_heads=4, _delete_=True)",
            "model.encoder.layer_cfg.self_attn_cfg.type is 'LevelwiseDeformAttn'",
        ),
        ("model['as_two_stage'] = True", "model.with_box_refine is False"),
        ("test_pipeline[1] = dict(type='Resize', scale=(64, 64))", "Resize.keep_ratio is False"),
    ],
)
def test_refuses_what_transformers_has_not(changes, named, tmp_path, detector_files, one_line_error):
    config, checkpoint = detector_files(changes=changes)
    error = one_line_error("publish_model", config, checkpoint, "--to-folder", tmp_path / "folder")
    assert f"{config}: " in error and named in error
    assert not any((tmp_path / "folder").iterdir())


def test_refuses_detr(tmp_path, tool, one_line_error):
    config, checkpoint = CONFIG.with_name("tiny_detr.py"), tmp_path / "detr.pth"
    torch.save({"state_dict": init_detector(config, device="cpu").state_dict()}, checkpoint)
    tool("publish_model", config, checkpoint, "--out", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 1
    error = one_line_error("publish_model", config, checkpoint, "--to-folder", tmp_path / "folder")
    assert "model.type is 'DETR'" in error


@contextmanager
def hub(status: int = 200):
    """A server that answers as the hub does, or refuses; yields its address and the files it has got."""
    got = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            repo = f"{address}/me/mine"
            answer = dict(url=repo, commitUrl=f"{repo}/commit/1", commitOid="1")
            if "/preupload/" in self.path:
                paths = [file["path"] for file in json.loads(body)["files"]]
                modes = dict(uploadMode="regular", shouldIgnore=False)
                answer["files"] = [dict(path=path, **modes) for path in paths]
            elif "/commit/" in self.path:
                values = [json.loads(line)["value"] for line in body.splitlines()]
                got.update((x["path"], base64.b64decode(x["content"])) for x in values if "path" in x)
            self.answer(answer)

        def do_GET(self) -> None:
            self.answer(dict(id="me/mine", sha="1", siblings=[]))

        def answer(self, contents: dict) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(contents).encode())

        def log_message(self, *args) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield address, got
    server.shutdown()


def test_uploads_the_folder(tmp_path, detector_files, tool, one_line_error, monkeypatch, capsys):
    constants = pytest.importorskip("huggingface_hub.constants", reason="`make test` installs it")
    config, checkpoint = detector_files()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("not for all to see")
    args = ["publish_model", config, checkpoint, "--to-folder", folder, "--to-hub", "me/mine"]
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    with hub() as (address, got):
        monkeypatch.setattr(constants, "ENDPOINT", address)  # HF_ENDPOINT is read by the import
        tool(*args)
    assert f"uploaded to {address}/me/mine" in capsys.readouterr().out
    assert got == {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "notes.txt"}
    assert 'from_pretrained("me/mine")' in (folder / "README.md").read_text()

    error = one_line_error(*args)  # nothing listens any more
    assert "the upload to" in error and "check the network" in error
    with hub(403) as (address, got):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        assert "HF_TOKEN, with a token that may write to me/mine" in one_line_error(*args)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install huggingface_hub" in one_line_error(*args)
