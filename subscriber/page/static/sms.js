// The box that sends a message, as if it had come by SMS, where the page
// knows an API to ask.

import { byId, setText } from "./view.js";

/**
 * Prepares the box.
 *
 * @param {string} api  the API's URL; empty: there is no box
 * @param {function(string, string)} onSent  workflow ID and run ID of the
 *   conversation that answers
 */
export function smsForm(api, onSent) {
  if (!api) return;
  const form = byId("sms"), text = byId("sms-text"), send = byId("sms-send");
  form.hidden = false;

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    fail("");
    if (!text.value.trim()) {
      text.focus();
      return fail("Write a message first.");
    }
    send.disabled = true;
    try {
      const response = await fetch(`${api}/v1/messages`, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ text: text.value }),
      });
      const answer = await response.json().catch(() => null);
      if (!response.ok) return fail(answer?.detail ?? answer?.title ?? `The API answered ${response.status}.`);
      text.value = "";
      onSent(answer.workflow_id, answer.run_id);
    } catch {
      fail(`The API at ${api} does not answer.`);
    } finally {
      send.disabled = false;
    }
  });

  function fail(message) {
    const note = byId("sms-error");
    setText(note, message);
    note.hidden = !message;
  }
}
