// Replaces the overview with each server-sent rendering. Without JavaScript the page is static.
const live = document.getElementById("live");
const stream = new EventSource(live.dataset.stream);
stream.addEventListener("overview", (event) => {
  // The focused link keeps the focus.
  const focused = live.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  live.innerHTML = event.data;
  if (focused) live.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
});
