// Each example becomes one picture with a slider that wipes from photograph to truth to prediction to difference.
for (const box of document.querySelectorAll(".slides")) {
  const names = [...box.querySelectorAll("figcaption")].map((caption) => caption.textContent);
  const range = Object.assign(document.createElement("input"), { type: "range", min: 0, max: names.length - 1, step: 0.02 });
  const marks = names.map((name) => Object.assign(document.createElement("button"), { type: "button", textContent: name }));
  const show = (place) => {
    range.value = place;
    box.style.setProperty("--at", range.value);
    box.style.setProperty("--edge", range.value % 1);
    range.setAttribute("aria-valuetext", names[Math.round(range.value)]);
    marks.forEach((mark, index) => mark.setAttribute("aria-pressed", index === Math.round(range.value)));
  };
  range.setAttribute("aria-label", "From " + names.join(" to "));
  range.addEventListener("input", () => show(range.value));
  marks.forEach((mark, index) => mark.addEventListener("click", () => show(index)));
  const controls = Object.assign(document.createElement("div"), { className: "controls" });
  controls.append(range, ...marks);
  box.querySelector(".layers").after(controls);
  box.classList.add("live");
  show(box.dataset.shown);
}
