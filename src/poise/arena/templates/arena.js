// Keys that press the buttons, and answers that grow while they are written. Without it the page works by its buttons.
"use strict";

const typing = (element) => element.matches("textarea, input:not([type=hidden])");
const fits = () => document.documentElement.scrollHeight <= window.innerHeight;
const prompt = document.getElementById("prompt");
let sent = false;

document.addEventListener("submit", (event) => {
  if (sent) event.preventDefault();
  sent = true;
  if (event.target.contains(prompt)) sessionStorage.removeItem("prompt");
});

if (prompt) { // what is half typed outlives the pages between
  prompt.value = sessionStorage.getItem("prompt") ?? "";
  prompt.addEventListener("input", () => sessionStorage.setItem("prompt", prompt.value));
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) prompt.form.requestSubmit();
  });
}

window.addEventListener("pageshow", (event) => {
  if (event.persisted) window.location.reload();
});

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  let key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "ArrowDown" && fits()) key = "t"; // where there is more below, the key scrolls
  const button = [...document.querySelectorAll("button[data-key]")].find((each) => each.dataset.key === key);
  if (!button || button.disabled) return;
  event.preventDefault();
  button.click();
});

if (document.body.dataset.whole === "no") {
  const source = new EventSource("/answers/" + document.body.dataset.battle);
  source.addEventListener("said", (event) => {
    const said = JSON.parse(event.data);
    for (const side of ["left", "right"]) document.getElementById(side).textContent = said[side];
  });
  source.addEventListener("whole", () => {
    source.close();
    window.location.reload();
  });
}
