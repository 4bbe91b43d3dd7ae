"use strict";
(function () {
  const root = document.documentElement;
  root.classList.remove("no-script");

  // Light and dark: the system's choice until the button is pressed.
  const themeButton = document.getElementById("theme");
  const isDark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : window.matchMedia("(prefers-color-scheme: dark)").matches;
  const nameTheme = () => { themeButton.textContent = isDark() ? "Light" : "Dark"; };
  try {
    const kept = localStorage.getItem("signs_dist-theme");
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch (error) { /* this browser has no storage for files */ }
  themeButton.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("signs_dist-theme", root.dataset.theme); } catch (error) { /* as above */ }
    nameTheme();
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
  nameTheme();

  // Values under the pointer. Names come from users: they are set as text, never as HTML.
  const tooltip = document.getElementById("tooltip");
  function showTooltip(handler, event, item, value) {
    if (value === null || value === undefined || value === "") { tooltip.hidden = true; return; }
    const list = document.createElement("dl");
    for (const [name, text] of Object.entries(value)) {
      list.appendChild(document.createElement("dt")).textContent = name;
      list.appendChild(document.createElement("dd")).textContent = String(text);
    }
    tooltip.replaceChildren(list);
    tooltip.hidden = false;
    const left = Math.min(event.clientX + 14, window.innerWidth - tooltip.offsetWidth - 8);
    const top = Math.min(event.clientY + 14, window.innerHeight - tooltip.offsetHeight - 8);
    tooltip.style.left = Math.max(4, left) + "px";
    tooltip.style.top = Math.max(4, top) + "px";
  }

  // Charts: each becomes interactive when it comes near the window.
  const views = [];
  const hidden = new Map();  // group of charts -> keys of the series that are left out
  async function start(place) {
    const spec = JSON.parse(document.getElementById(place.dataset.chart).textContent);
    spec.width = place.clientWidth;
    const options = { mode: "vega", renderer: "svg", actions: false, defaultStyle: false, tooltip: showTooltip };
    const { view } = await vegaEmbed(place, spec, options);
    const group = place.dataset.group;
    views.push({ view, group });
    if (hidden.has(group)) await view.signal("hidden", [...hidden.get(group)]).runAsync();
    new ResizeObserver(() => {
      if (place.clientWidth && place.clientWidth !== view.width()) view.width(place.clientWidth).runAsync();
    }).observe(place);
    place.dataset.ready = "true";
  }
  async function loadRuntime() {
    const packed = Uint8Array.from(atob(document.getElementById("runtime").textContent), (each) => each.charCodeAt(0));
    const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = "(function(){" + await new Response(unpacked).text() + "})();";
    document.head.append(script);
  }
  // A browser without DecompressionStream (before 2023) keeps the pictures.
  const places = document.querySelectorAll("[data-chart]");
  if (places.length && "DecompressionStream" in window) {
    loadRuntime().then(() => {
      const watcher = new IntersectionObserver((entries) => {
        for (const entry of entries) {
          if (entry.isIntersecting) { watcher.unobserve(entry.target); start(entry.target); }
        }
      }, { rootMargin: "300px" });
      places.forEach((place) => watcher.observe(place));
    });
  }

  // Legends: a button for each series shows and hides it in all charts of its group.
  document.querySelectorAll(".legend button").forEach((button) => {
    button.addEventListener("click", () => {
      const group = button.dataset.group, key = button.dataset.series;
      const keys = hidden.get(group) || new Set();
      hidden.set(group, keys);
      if (!keys.delete(key)) keys.add(key);
      button.setAttribute("aria-pressed", String(!keys.has(key)));
      for (const each of views) {
        if (each.group === group) each.view.signal("hidden", [...keys]).runAsync();
      }
    });
  });

  // Tables: a button in each header sorts. Cells without a value stay at the end.
  const valueOf = (row, place) => row.cells[place].dataset.value ?? row.cells[place].textContent.trim();
  document.querySelectorAll("th button").forEach((button) => {
    button.addEventListener("click", () => {
      const header = button.closest("th"), body = button.closest("table").tBodies[0];
      const first = header.dataset.first || "ascending";
      const direction = header.getAttribute("aria-sort") !== first ? first
        : first === "ascending" ? "descending" : "ascending";
      const sign = direction === "ascending" ? 1 : -1;
      const compare = (a, b) => {
        const one = valueOf(a, header.cellIndex), other = valueOf(b, header.cellIndex);
        if (one === "" || other === "") return (one === "") - (other === "");
        const difference = Number(one) - Number(other);
        return sign * (Number.isNaN(difference) ? one.localeCompare(other, "en", { numeric: true }) : difference);
      };
      body.append(...[...body.rows].sort(compare));
      for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", direction);
    });
  });
})();
