"""Serve a page on this machine: drop images, see detections and where attention looks, download results.

python tools/serve.py CONFIG CHECKPOINT
python tools/serve.py ddetr_r50_50e_two_stage
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from projects.attention_viewer.detection_page import MAX_BYTES, DetectionPage
from projects.attention_viewer.http_server import listen, local_names, make_server, page_address
from projects.reliable_runner.inference import file_name, init_detector
from projects.reliable_runner.launcher import config_parser, run_tool


def main(argv: list[str] | None = None) -> None:
    parser = config_parser("Serve a page that shows what a detector sees in the images it is given.")
    what = "checkpoint file, address or name; without it CONFIG is the name of a published model"
    parser.add_argument("checkpoint", nargs="?", help=what)
    parser.add_argument("--port", type=int, default=8000, help="8000; 0 for any free one")
    what = "address to listen at; by default 127.0.0.1, this machine alone. There is no password: 0.0.0.0 "
    parser.add_argument("--host", default="127.0.0.1", help=what + "serves all who reach this machine")
    parser.add_argument("--device", help="cpu, cuda:0, ...; by default a GPU if there is one")
    what = "least score of a detection in the JSON, and at first in the page (0.3)"
    parser.add_argument("--score-thr", type=float, default=0.3, help=what)
    args = parser.parse_args(argv)

    with listen(args.host, args.port) as listening:
        pretrained = args.checkpoint is None
        detector = init_detector(args.config, args.checkpoint, args.device, args.cfg_options, pretrained)
        name = Path(args.config).stem + ("" if pretrained else f", {file_name(args.checkpoint)}")
        page = DetectionPage(detector, name, args.score_thr, local_names(listening))
        server = make_server(listening, page, MAX_BYTES)
        print(f"{name}: {page_address(listening)} (Ctrl-C ends it)", flush=True)
        server.run()
    print("stopped")


if __name__ == "__main__":
    sys.exit(run_tool(main))
