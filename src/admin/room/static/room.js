// Keeps the numbers of a page fresh. Every page and every control works without it.
"use strict";
(() => {
  const kinds = {
    k: (element, value) => { if (element.textContent !== value) element.textContent = value; },
    t: (element, value) => { element.dataset.tone = value; },
    w: (element, value) => { element.setAttribute("width", value); },
    p: (element, value) => { element.setAttribute("points", value); },
  };
  const index = new Map();
  for (const kind of Object.keys(kinds)) {
    for (const element of document.querySelectorAll(`[data-${kind}]`)) {
      const key = element.dataset[kind];
      if (!index.has(key)) index.set(key, []);
      index.get(key).push([kinds[kind], element]);
    }
  }

  const show = (told) => {
    for (const [key, value] of Object.entries(told.set)) {
      for (const [put, element] of index.get(key) ?? []) put(element, value);
      const stage = /^r\.(.+)\.stage$/.exec(key);
      if (stage) for (const [, element] of index.get(key) ?? []) element.closest("tr")?.setAttribute("data-stage", value);
    }
    showAlarms(told.alarms);
    const news = document.getElementById("news");
    if (news) news.hidden = told.revision === document.body.dataset.revision;
  };

  let said = null;
  const showAlarms = (alarms) => {
    const list = document.getElementById("alarms");
    const text = JSON.stringify(alarms);
    if (!list || text === said) return;
    said = text;
    list.replaceChildren(...alarms.map((alarm) => {
      const item = document.createElement("li");
      if (alarm.route) {
        const link = document.createElement("a");
        link.href = `/routes/${encodeURIComponent(alarm.route)}`;
        link.textContent = alarm.route;
        item.append(link, ": ");
      }
      item.append(alarm.text);
      return item;
    }));
  };

  const beat = document.getElementById("beat");
  if ("live" in document.body.dataset && window.EventSource) {
    const events = new EventSource("/api/v1/events");
    const say = (state, words, title) => {
      if (!beat || beat.dataset.state === state) return;
      beat.dataset.state = state;
      beat.textContent = words;
      beat.title = title;
    };
    events.addEventListener("open", () => say("live", "live", "Numbers are renewed every second"));
    events.addEventListener("numbers", (event) => show(JSON.parse(event.data)));
    events.addEventListener("error", () => say("lost", "not connected", "Tried again every two seconds; these numbers are old"));
    window.addEventListener("pagehide", () => events.close());
  }

  // Filters what is there already while one types; the form does the same for all rows.
  const filter = document.getElementById("filter");
  const rows = [...document.querySelectorAll("table.routes tbody tr")];
  if (filter && rows.length) {
    const apply = () => {
      const text = filter.elements.q.value.trim().toLowerCase();
      const stage = filter.elements.stage.value;
      for (const row of rows) {
        const isNamed = row.dataset.name.toLowerCase().includes(text);
        row.hidden = !(isNamed && (stage === "" || row.dataset.stage === stage));
      }
    };
    if (!location.search) {
      filter.addEventListener("input", apply);
    }
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }
})();
