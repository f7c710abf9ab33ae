// The line to the worker: server-sent events tell that there is news, the news themselves are asked for.

const SILENCE = 15000; // three beats of the worker
const AGAIN = [1000, 2000, 4000, 8000, 10000];

/** Answers of the API; an Error with `status` when it refuses, without when nobody answers. */
export async function ask(path, query = {}, headers = {}) {
  const response = await fetch(`api/${path}?${new URLSearchParams(query)}`, { headers, cache: "no-store" });
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  throw Object.assign(new Error(body.error || `${response.status}`), { status: response.status });
}

/** Calls `onPulse` with each message and `onLost(seconds until the next try)` when the line is lost. Goes on for ever. */
export function listen(onPulse, onLost) {
  let tries = 0;
  let source = null;
  let silence = 0;

  function heard(event) {
    tries = 0;
    clearTimeout(silence);
    silence = setTimeout(lost, SILENCE);
    onPulse(JSON.parse(event.data));
  }

  function lost() {
    source.close();
    clearTimeout(silence);
    const pause = AGAIN[Math.min(tries, AGAIN.length - 1)];
    tries += 1;
    onLost(pause / 1000);
    setTimeout(open, pause);
  }

  function open() {
    source = new EventSource("api/events");
    source.onmessage = heard;
    source.onerror = lost;
    clearTimeout(silence);
    silence = setTimeout(lost, SILENCE);
  }

  open();
}
