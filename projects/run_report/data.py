"""What the data sets hold, from the data-set report."""

import base64
import io
from xml.etree.ElementTree import Element

from projects.dataset_report.figure import draw_statistics
from projects.dataset_report.report import Report

from .markup import element, folded, section, table


def data_section(report: Report, num_queries: int | None) -> Element:
    """Numbers, findings and the picture of a data-set report."""
    content = report.to_dict()["splits"]
    numbers = {split: part["statistics"] for split, part in content.items()}
    rows = [
        ("images", *(n["num_images"] for n in numbers.values())),
        ("images without objects", *(n["num_images_without_objects"] for n in numbers.values())),
        ("objects", *(n["num_objects"] for n in numbers.values())),
        ("crowds", *(n["num_crowds"] for n in numbers.values())),
        ("objects an image, mean", *(f"{n['mean_objects_in_an_image']:.1f}" for n in numbers.values())),
        ("objects an image, most", *(n["most_objects_in_an_image"] for n in numbers.values())),
    ]
    for size in ("small", "medium", "large"):
        rows.append((f"{size} objects", *(f"{n['coco_sizes'][size]:.1%}" for n in numbers.values())))
    by_class = {
        split: {one["name"]: (one["objects"], one["images"]) for one in part["classes"]}
        for split, part in numbers.items()
    }
    names = dict.fromkeys(name for classes in by_class.values() for name in classes)
    counts = [
        (name, *("{} in {}".format(*by_class[split].get(name, (0, 0))) for split in numbers))
        for name in names
    ]
    findings = [
        element("li", element("strong", kind), f" {finding}")
        for kind, of_kind in (("Error:", report.errors), ("Warning:", report.warnings))
        for finding in of_kind
    ]
    buffer = io.BytesIO()
    draw_statistics(report.checked, num_queries, buffer)
    picture = element(
        "img",
        src="data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
        alt="Histograms of objects a class, sizes of boxes, objects an image and sizes of images; "
        "the tables have their numbers",
        class_="wide",
    )
    tables = [
        table("What there is", ["", *numbers], rows),
        table("Objects of each class, and in how many images", ["class", *numbers], counts),
    ]
    text = folded("The report as text", element("pre", report, tabindex=0))
    listed = element("ul", *findings) if findings else None
    return section("Data", "data", element("div", *tables, class_="grid"), listed, picture, text)
