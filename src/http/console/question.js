// Asks once before something happens that cannot simply be taken back.

const $ = (id) => document.getElementById(id);

/** Whether the person said yes. Where it destroys something, the way out is what has the focus. */
export function ask({ title, text, act, destroys = false }) {
  const dialog = $("question");
  const asker = document.activeElement;
  $("question-title").textContent = title;
  $("question-text").textContent = text;
  $("question-yes").textContent = act;
  $("question-yes").classList.toggle("destroys", destroys);
  dialog.returnValue = "no";
  dialog.showModal();
  $(destroys ? "question-no" : "question-yes").focus();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        (asker?.isConnected ? asker : $("heading")).focus();
        resolve(dialog.returnValue === "yes");
      },
      { once: true },
    );
  });
}

/** Puts a question away that nobody answered. */
export function unask() {
  if ($("question").open) $("question").close("no");
}
