"""A view as a page gets it: as many queries and tokens as a size allows."""

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from .layer_data import PIXELS, attention_data, block_data, pack
from .view import View

_SCORES = 1e-4
# The most that is tried, and what is tried where they are too many.
_QUERIES = (300, 200, 100, 50, 20, 10, 5, 2, 1)
_DEFLATED = 8  # numbers seldom deflate to less: what is so many times too large is not made


def view_data(view: View, max_bytes: int) -> dict:
    """Detections, matched pairs and attention of a view in about ``max_bytes`` of JSON at most.

    Where not all fits, the decoder has the queries with the best scores, and encoder and backbone have tokens
    on a grid that is as dense as fits.

    Returns:
        ``detections``: ``queries`` (n,) and, packed by `pack`, ``scores``, ``labels`` (num_layers, n) and
        ``boxes`` (num_layers, n, 4), x1, y1, x2, y2 in pixels of the original image.

        ``matches``: for each layer the row of ``detections`` that the losses match with each true box, or -1;
        None if no true boxes are given.

        ``decoder``, ``encoder``, ``backbone``: `attention_data` or `block_data` of each layer; in the encoder
        with the ``token_levels`` (n,).
    """
    makers = dict(backbone=_backbone, decoder=_decoder, encoder=_encoder)
    left, data = max_bytes, {}
    for number, (stage, make) in enumerate(makers.items()):
        part = make(view, left // (len(makers) - number)) if view.record[stage] else {stage: []}
        left, data = left - _size(part), data | part
    if not view.record["decoder"]:
        data["detections"] = _detections(view, _ranked(view)[: _QUERIES[0]])
    rows = {query: row for row, query in enumerate(data["detections"]["queries"])}
    matches = None if view.matches is None else view.matches.tolist()
    data["matches"] = matches and [[rows.get(query, -1) for query in layer] for layer in matches]
    return data


def _ranked(view: View) -> Tensor:
    return view.detections.scores[-1].argsort(descending=True)


def _detections(view: View, queries: Tensor) -> dict:
    found = view.detections
    return dict(
        queries=queries.tolist(),
        scores=pack(found.scores[:, queries], _SCORES),
        labels=pack(found.labels[:, queries], 1),
        boxes=pack(found.boxes[:, queries], PIXELS),
    )


def _decoder(view: View, max_bytes: int) -> dict:
    """Detections and decoder of as many queries as fit."""
    ranked = _ranked(view)

    def make(count: int) -> dict:
        layers = [attention_data(view.frame, layer, ranked[:count]) for layer in view.record["decoder"]]
        return dict(detections=_detections(view, ranked[:count]), decoder=layers)

    return _first_that_fits(_QUERIES, make, max_bytes)


def _encoder(view: View, max_bytes: int) -> dict:
    """The encoder's layers, of as many tokens as fit."""
    layers = view.record["encoder"]
    first = layers[0]
    shapes = [mask.shape[1:] for mask in first.masks]
    numbers = first.weights[0, 0].numel() * (1 if first.locations is None else 5)

    def make(stride: int) -> dict:
        tokens, levels = _grid(shapes, stride)
        used = ~first.padding[0, tokens]
        made = [attention_data(view.frame, layer, tokens[used]) for layer in layers]
        return dict(encoder=[data | dict(token_levels=pack(levels[used], 1)) for data in made])

    return _first_that_fits(_strides(shapes, len(layers) * numbers, max_bytes), make, max_bytes)


def _backbone(view: View, max_bytes: int) -> dict:
    """The backbone's blocks, of as many tokens as fit."""
    blocks = view.record["backbone"]
    first = blocks[0]
    shape = first.x.shape[2:]
    numbers = sum(block.num_heads * len(block.moved()[0]) for block in blocks)

    def make(stride: int) -> dict:
        return dict(
            backbone=[layer(block, max(1, stride * first.stride // block.stride)) for block in blocks]
        )

    def layer(block, stride: int) -> dict:
        tokens, _ = _grid([block.x.shape[2:]], stride)
        places = view.input_frame.to_pixels(block.centres(tokens))
        inside = ((places > 0) & (places < torch.tensor(view.frame.size))).all(-1)
        return block_data(view.input_frame, block, tokens[inside])

    return _first_that_fits(_strides([shape], numbers, max_bytes), make, max_bytes)


def _grid(shapes: Sequence[Sequence[int]], stride: int) -> tuple[Tensor, Tensor]:
    """Tokens of all levels, ``stride`` tokens of the first level apart, and the level of each."""
    starts = [0, *accumulate(h * w for h, w in shapes)]
    tokens, levels = [], []
    for level, (h, w) in enumerate(shapes):
        step = max(1, round(stride * w / shapes[0][1]))
        rows, columns = (torch.arange(min(step, n) // 2, n, step) for n in (h, w))
        tokens.append((starts[level] + rows[:, None] * w + columns).flatten())
        levels.append(torch.full_like(tokens[-1], level))
    return torch.cat(tokens), torch.cat(levels)


def _strides(shapes: Sequence[Sequence[int]], numbers: int, max_bytes: int) -> list[int]:
    """Strides of `_grid` to try, densest first, for so many numbers a token."""
    largest = max(shapes[0])
    sizes = {stride: numbers * len(_grid(shapes, stride)[0]) for stride in range(1, largest + 1)}
    return [stride for stride, size in sizes.items() if size <= _DEFLATED * max_bytes] or [largest]


def _first_that_fits(choices: Iterable[int], make: Callable[[int], dict], max_bytes: int) -> dict:
    """What ``make`` makes of the first choice that is small enough, or of the last one."""
    for choice in choices:
        if _size(made := make(choice)) <= max_bytes:
            break
    return made


def _size(data: dict) -> int:
    return len(json.dumps(data, separators=(",", ":")))
