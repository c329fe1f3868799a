// Search over the headings of all pages: INDEX (pairs of text and address) and ROOT are set by the page.
const box = document.querySelector("#tt-search");
const found = document.querySelector("#tt-found");

function item([text, address]) {
  const entry = document.createElement("li"), link = document.createElement("a");
  link.href = ROOT + address;
  link.textContent = text;
  entry.append(link);
  return entry;
}

box.addEventListener("input", () => {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = ([text]) => words.every(word => text.toLowerCase().includes(word));
  found.replaceChildren(...(words.length ? INDEX.filter(fits).slice(0, 12).map(item) : []));
});

// The list of pages is folded where the screen is narrow.
const narrow = matchMedia("(max-width: 760px)"), pages = document.querySelector("nav details");
const fold = () => { pages.open = !narrow.matches; };
narrow.addEventListener("change", fold);
fold();
