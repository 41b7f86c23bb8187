"use strict";

/** Sends images to the server (detection_page.py) and shows its answers; begins when page.js has run. */
document.addEventListener("DOMContentLoaded", () => {
  const results = []; // of each image of the page, as a COCO file
  let queue = Promise.resolve(); // images are sent one after the other

  /** What the server finds in a file; an error if it refuses, or does not answer. */
  async function detect(file) {
    const megabytes = page.max_bytes / 2 ** 20;
    if (file.size > page.max_bytes) throw new Error(`${file.name} is larger than ${megabytes} MiB`);
    const request = { method: "POST", body: file };
    const answer = await fetch(`detect?name=${encodeURIComponent(file.name)}`, request).catch(() => {
      throw new Error(`${file.name} could not be sent: the server does not answer, or the file is gone`);
    });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    return answer.json();
  }

  async function take(file) {
    $("progress").textContent = `Looking at ${file.name} ...`;
    try {
      const { image, coco } = await detect(file);
      results.push(coco);
      addImage(image);
      $("progress").textContent = `${file.name}: ${coco.annotations.length} detections.`;
    } catch (error) {
      $("progress").textContent = "";
      $("refused").append(element("li", {}, error.message));
    }
  }

  function takeAll(files) {
    $("refused").replaceChildren();
    for (const file of files) queue = queue.then(() => take(file));
  }

  function download() {
    const text = JSON.stringify(results[imageNumber()]);
    const name = page.images[imageNumber()].name.replace(/\.[^.]*$/, "") + ".json";
    const link = element("a", { href: URL.createObjectURL(new Blob([text])), download: name });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  $("files").addEventListener("change", () => {
    takeAll([...$("files").files]);
    $("files").value = ""; // so that the same file can be chosen again
  });
  $("download").addEventListener("click", download);
  const onPage = (event, act) => document.addEventListener(event, (happened) => {
    happened.preventDefault();
    act(happened);
  });
  onPage("dragover", () => document.body.classList.add("dropping"));
  onPage("dragleave", () => document.body.classList.remove("dropping"));
  onPage("drop", ({ dataTransfer }) => {
    document.body.classList.remove("dropping");
    takeAll([...dataTransfer.files]);
  });
});
