// The form that starts a run, where the page knows an API to ask.

import { byId, setText } from "./view.js";

/**
 * Prepares the form.
 *
 * @param {string} api  the API's URL; empty: there is no form
 * @param {function(string, string)} onStarted  workflow ID and run ID
 */
export function startForm(api, onStarted) {
  const dialog = byId("start"), button = byId("start-open");
  if (!api) return;
  button.hidden = false;

  button.addEventListener("click", () => {
    byId("start-id").value = `demo-${Math.random().toString(36).slice(2, 8)}`;
    fail("");
    dialog.showModal();
    byId("start-id").select();
  });
  byId("start-cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  byId("start-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    fail("");
    const type = byId("start-type").value.trim(), id = byId("start-id").value;
    if (!type) return fail("Say which workflow type to start.", "start-type");
    if (!id) return fail("Give the run an ID.", "start-id");
    const request = { type, id };
    const input = byId("start-input").value.trim();
    try {
      if (input) request.input = JSON.parse(input);
    } catch (error) {
      return fail(`The input is not JSON: ${error.message}`, "start-input");
    }
    const tags = byId("start-tags").value.split(",").map((tag) => tag.trim()).filter(Boolean);
    if (tags.length) request.tags = tags;

    const submit = byId("start-submit");
    submit.disabled = true;
    try {
      const response = await fetch(`${api}/v1/workflows`, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request),
      });
      const answer = await response.json().catch(() => null);
      if (!response.ok) return fail(answer?.detail ?? answer?.title ?? `The API answered ${response.status}.`);
      dialog.close();
      onStarted(answer.workflow_id, answer.run_id);
    } catch {
      fail(`The API at ${api} does not answer.`);
    } finally {
      submit.disabled = false;
    }
  });

  function fail(message, field) {
    const note = byId("start-error");
    setText(note, message);
    note.hidden = !message;
    if (field) byId(field).focus();
  }
}
