/* The search of the site finds messages as they were printed, and pages that have most of the words.

   The theme's own search wants each word on the page, and a message that is pasted has paths and numbers of its own. */
"use strict";

/** The messages that a query quotes. In their `text` numbers and … stand for any value. */
function findMessages(query, messages) {
  const plain = (text) => text.toLowerCase().replace(/[\s`'"]+/g, " ").trim();
  const asked = plain(query);
  const isQuoted = (text) => {
    let place = 0;
    return text
      .split(/…|\d+/)
      .map((part) => part.trim())
      .every((part) => {
        const start = asked.indexOf(part, place);
        place = start + part.length;
        return start >= 0;
      });
  };
  const found = messages.filter(({ text }) => {
    const whole = plain(text);
    const sentence = whole.split(". ")[0];
    const isPart = asked.length >= 8 && whole.includes(asked);
    return isPart || isQuoted(whole) || (sentence.length >= 20 && isQuoted(sentence));
  });
  return found.sort((one, other) => other.text.length - one.text.length);
}

/** Page → how much of the query it has, 0 to 1: rare words count for more; words that no page has do not count. */
function rankPages(words, terms, numPages) {
  const pages = new Map();
  let total = 0;
  for (const word of words) {
    const exact = Object.hasOwn(terms, word) ? [word] : [];
    const near = word.length > 2 ? Object.keys(terms).filter((term) => term.includes(word)) : [];
    const files = new Set((exact.length ? exact : near).flatMap((term) => terms[term]));
    if (!files.size) continue;
    const weight = Math.log(1 + numPages / files.size);
    total += weight;
    for (const file of files) pages.set(file, (pages.get(file) ?? 0) + weight);
  }
  return new Map([...pages].map(([file, weight]) => [file, weight / total]));
}

/** Headings that have words of the query: the more of the query and of the heading, the better. */
function searchHeadings(words) {
  const { alltitles, titles, docnames, filenames } = Search._index;
  const stemmer = new Stemmer();
  return Object.entries(alltitles).flatMap(([heading, places]) => {
    const own = splitQuery(heading.toLowerCase())
      .filter((word) => !stopwords.has(word))
      .map((word) => stemmer.stemWord(word));
    const shared = own.filter((word) => words.has(word)).length;
    const fit = 12 * (shared / words.size) * Math.sqrt(shared / Math.max(1, own.length));
    if (fit < 3) return [];
    return places.map(([file, anchor]) => {
      const title = titles[file] === heading ? heading : `${titles[file]} > ${heading}`;
      const score = fit * weightOf(docnames[file]);
      return [docnames[file], title, anchor ? `#${anchor}` : "", null, score, filenames[file], "title"];
    });
  });
}

/** Pages for users come before the list of changes and the pages for developers. */
const weightOf = (page) => (page.startsWith("docs/") ? 1 : 0.6);

function searchPages(searchTerms) {
  const { terms, titleterms, docnames, filenames, titles } = Search._index;
  const inText = rankPages(searchTerms, terms, docnames.length);
  const inTitle = rankPages(searchTerms, titleterms, docnames.length);
  const most = Math.max(0, ...inText.values());
  const pages = [...new Set([...inText.keys(), ...inTitle.keys()])]
    .filter((file) => (inText.get(file) ?? 0) >= 0.5 * most || inTitle.has(file))
    .map((file) => {
      const score = 5 * (inText.get(file) ?? 0) + 3 * (inTitle.get(file) ?? 0);
      return [docnames[file], titles[file], "", null, score * weightOf(docnames[file]), filenames[file], "text"];
    });
  const query = new URLSearchParams(window.location.search).get("q") ?? "";
  const rows = typeof MESSAGES === "undefined" ? [] : findMessages(query, MESSAGES);
  const messages = rows.slice(0, 5).map(({ page, anchor, text }, place) => {
    const file = docnames.indexOf(page);
    return [page, titles[file], `#${anchor}`, text, 100 - place, filenames[file], "text"];
  });
  const best = [...searchHeadings(searchTerms), ...pages].sort((one, other) => other[4] - one[4]);
  return [...messages, ...best.slice(0, rows.length ? 5 : 20)];
}

/** On a page that was opened from the search: the row or paragraph with most of the words comes into view. */
function showBestPlace() {
  if (window.location.hash) return;
  const places = new Map();
  for (const mark of document.querySelectorAll("[role=main] .highlighted")) {
    const place = mark.closest("tr, p, li, pre, dt, h1, h2, h3");
    if (place) places.set(place, (places.get(place) ?? new Set()).add(mark.textContent.toLowerCase()));
  }
  const [best] = [...places].sort(([, one], [, other]) => other.size - one.size);
  best?.[0].scrollIntoView({ block: "center" });
}

/** On a narrow screen a table that does not fit becomes a list, whose entries name their columns. */
function stackTables() {
  for (const table of document.querySelectorAll("table.docutils")) {
    const names = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.children].forEach((cell, column) => {
        if (names[column]) cell.dataset.label = names[column];
      });
    }
    table.classList.remove("stacked");
    table.classList.toggle("stacked", table.scrollWidth > table.parentElement.clientWidth);
  }
}

// Sphinx marks the words of a search in all texts, and fails in the titles of icons and drawings.
for (const text of document.querySelectorAll("svg title, svg style")) text.classList.add("nohighlight");

document.addEventListener("DOMContentLoaded", () => {
  stackTables();
  if (window.location.hash) document.getElementById(window.location.hash.slice(1))?.scrollIntoView();
  window.matchMedia("(max-width: 46em)").addEventListener("change", stackTables);
  if (typeof Search !== "undefined") Search.performTermsSearch = searchPages;
  else window.setTimeout(showBestPlace, 50); // the theme marks the words first
});
