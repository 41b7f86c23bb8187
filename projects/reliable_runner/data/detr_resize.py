"""DETR's resize, to the pixel."""

from mmdet.datasets.transforms import Resize


class DETRResize(Resize):
    """Resizes as the official codes of DETR and Deformable DETR do (``get_size_with_aspect_ratio``).

    The longer of the resized sides is rounded down, where mmcv's ``Resize`` rounds to the nearest, and Pillow
    filters where it makes smaller. So the published AP can be reproduced to the last digit. ``scale`` is the
    most that the longer side may have, and the shorter side, in pixels.
    """

    def __init__(self, scale: tuple[int, int], **kwargs) -> None:
        super().__init__(scale=scale, keep_ratio=False, backend="pillow", **kwargs)

    def _resize_img(self, results: dict) -> None:
        h, w = results["img"].shape[:2]
        longer, shorter = max(self.scale), min(self.scale)
        if max(h, w) / min(h, w) * shorter > longer:
            shorter = round(longer * min(h, w) / max(h, w))
        results["scale"] = (shorter, int(shorter * h / w)) if w < h else (int(shorter * w / h), shorter)
        super()._resize_img(results)
