// The status page: replaces its live part, and sends what the operator decides. It builds no HTML of
// its own: what comes is parsed as a document, in which no script runs, and moved over.
"use strict";

const PERIOD = 2000;
const live = document.getElementById("live");
const lost = document.getElementById("lost");

function csrf() {
  return document.querySelector('meta[name="csrf"]')?.content ?? "";
}

function send(path, headers) {
  return fetch(path, { method: "POST", headers, cache: "no-store", redirect: "error" });
}

async function refresh() {
  let answer;
  try {
    answer = await fetch("/page/live", { cache: "no-store", signal: AbortSignal.timeout(8000) });
  } catch {
    lost.hidden = false;
    return;
  }
  if (answer.status === 401) {
    // The session of this browser has ended.
    location.reload();
    return;
  }
  lost.hidden = answer.ok;
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const focused = document.activeElement?.dataset?.kick;
  live.replaceChildren(...fresh.body.childNodes);
  if (focused) {
    [...live.querySelectorAll("[data-kick]")].find((one) => one.dataset.kick === focused)?.focus();
  }
}

async function keepFresh() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, PERIOD));
    // A page that nobody sees asks for nothing.
    if (!document.hidden) await refresh();
  }
}

function confirmed(question, word) {
  const dialog = document.getElementById("confirm");
  document.getElementById("question").textContent = question;
  document.getElementById("doit").textContent = word;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

if (live) {
  live.addEventListener("click", async (event) => {
    const kick = event.target.closest("[data-kick]");
    if (kick) {
      const { kick: id, who } = kick.dataset;
      const question = `End the session of ${who}? Its running transfer is aborted and leaves nothing behind.`;
      if (await confirmed(question, "End session")) {
        await send(`/page/sessions/${encodeURIComponent(id)}/kick`, { "x-causeway-csrf": csrf() });
        await refresh();
      }
    } else if (event.target.closest("[data-lift]")) {
      const { lift: subject, who } = event.target.closest("[data-lift]").dataset;
      if (await confirmed(`Lift the ban of ${who}? The failures behind it are forgotten.`, "Lift ban")) {
        await send(`/page/bans/${encodeURIComponent(subject)}/lift`, { "x-causeway-csrf": csrf() });
        await refresh();
      }
    } else if (event.target.closest("#logout")) {
      await send("/page/logout", { "x-causeway-csrf": csrf() });
      location.reload();
    }
  });
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  keepFresh();
}

const login = document.getElementById("login");
if (login) {
  login.addEventListener("submit", async (event) => {
    event.preventDefault();
    const field = document.getElementById("token");
    const refused = document.getElementById("refused");
    refused.hidden = true;
    try {
      const answer = await send("/page/login", { authorization: `Bearer ${field.value}` });
      if (answer.ok) {
        location.reload();
        return;
      }
      refused.hidden = false;
      field.select();
    } catch {
      lost.hidden = false;
    }
  });
}
