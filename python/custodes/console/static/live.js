// Puts each server-sent rendering of the overview in place. Without JavaScript the page is the same, but still.
const live = document.getElementById("live");
const stream = new EventSource(live.dataset.stream);
stream.addEventListener("overview", (event) => { live.innerHTML = event.data; });
