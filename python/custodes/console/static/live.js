// Puts each server-sent rendering of the overview in place. Without JavaScript the page is the same, but still.
const live = document.getElementById("live");
const stream = new EventSource(live.dataset.stream);
stream.addEventListener("overview", (event) => {
  // Whoever is on a link stays on it.
  const at = live.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  live.innerHTML = event.data;
  if (at) live.querySelector(`a[href="${CSS.escape(at)}"]`)?.focus();
});
